#!/usr/bin/env bash
# ptxas_log.sh COMMAND...: runs a compile command, keeps what ptxas says of registers and spills
# beside the object (FILE.o.ptxas), and fails where warpgroup products were serialised or
# setmaxnreg ignored: the kernel would be right, but slow.
set -uo pipefail

object=
for ((i = 1; i < $#; ++i)); do
  if [ "${!i}" = -o ]; then
    next=$((i + 1))
    object=${!next}
  fi
done
said=$("$@" 2>&1)
status=$?
if [ $status = 0 ] && [ -n "$object" ]; then
  grep -E '^ptxas|bytes stack frame' <<<"$said" >"$object.ptxas"
fi
grep -vE '^ptxas info|bytes stack frame|^$' <<<"$said" >&2
if slow=$(grep -E 'serialized|C75(08|10|12|14|15)' <<<"$said"); then
  printf '%s\n%s\n' "$slow" "error: this kernel would be slow; warpgroup products wait for each other, or setmaxnreg is ignored" >&2
  exit 1
fi
exit $status
