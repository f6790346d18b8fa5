#pragma once

#include "perpend/kernels/cuda/device/attention_drift_means.cuh"
#include "perpend/kernels/cuda/device/attention_drift_statistics.cuh"
#include "perpend/kernels/cuda/device/attention_drift_weights.cuh"

// What Elastic-Cache decides by (kernels/attention_drift.h), of all layers of a call in three
// launches: of parts of the keys the largest score and the sum of exponentials of each row and
// head; the same scores again, now as weights, for the sums over window rows and heads and for what
// the cosines are made of; sums of those of all heads, cosines, means.
//
// What bounds it is reading the keys twice. Nothing that grows with rows times heads times keys is
// stored: it would be no less, and more where query heads share keys. Keys that changed are not
// read as they were tile by tile: the first kernel leaves the scores of old queries and old keys
// aside, which are few, for the second to take in place of others. All sums are in a fixed order.
