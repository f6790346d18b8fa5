// What brings documents to a ranker: readers, BM25, Debian's index, pictures.

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/io/text_file.h"
#include "perpend/rank/bm25.h"
#include "perpend/rank/debian_packages.h"
#include "perpend/rank/document_reader.h"
#include "perpend/rank/heat_picture.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string error_of(const std::string& text) {
  try {
    read_document_lines(text, "docs.jsonl");
  } catch (const IoError& error) {
    return error.what();
  }
  return "no error";
}

TEST(DocumentReader, LinesBecomeDocuments) {
  const auto documents = read_document_lines(
      "{\"id\": \"a\", \"text\": \"one\"}\r\n\n"
      "{\"id\": 7, \"text\": \"two\\nlines\", \"title\": \"T\", \"other\": [1]}",
      "docs.jsonl");
  ASSERT_EQ(documents.size(), 2);
  EXPECT_EQ(documents[0].text, "one");
  EXPECT_EQ(documents[1].id, "7");
  EXPECT_EQ(documents[1].title, "T");
  EXPECT_EQ(documents[1].text, "two\nlines");
  EXPECT_TRUE(read_document_lines("\n \n", "docs.jsonl").empty());
}

TEST(DocumentReader, ErrorsNameTheLine) {
  const std::string good = "{\"id\": \"a\", \"text\": \"one\"}\n";
  EXPECT_THAT(error_of(good + "{\"id\": \"b\", "), HasSubstr("docs.jsonl: line 2: not valid JSON"));
  EXPECT_THAT(error_of(good + "\n[1]\n"), HasSubstr("docs.jsonl: line 3: expected a JSON object"));
  EXPECT_THAT(error_of(good + "{\"text\": \"x\"}"), HasSubstr("line 2: key 'id' is missing"));
  EXPECT_THAT(error_of(good + "{\"id\": \"b\"}"), HasSubstr("line 2: key 'text' is missing"));
  EXPECT_THAT(error_of(good + "{\"id\": \"b\", \"text\": 3}"),
              HasSubstr("line 2: key 'text': expected a text, found 3"));
  EXPECT_THAT(error_of(good + good), HasSubstr("line 2: the id 'a' was given before, in line 1"));
}

TEST(DocumentReader, FilesOfAFolderAreDocuments) {
  const TemporaryFolder folder;
  for (const char* name : {"b.txt", "a.txt", ".hidden"}) {
    std::ofstream(folder.file(name)) << "text of " << name;
  }
  std::filesystem::create_directory(folder.file("c"));
  const auto documents = read_document_folder(folder.path());
  ASSERT_EQ(documents.size(), 2);
  EXPECT_EQ(documents[0].id, "a.txt");
  EXPECT_EQ(documents[1].text, "text of b.txt");
  EXPECT_THROW(read_document_folder(folder.file("none")), IoError);
}

TEST(Bm25, WordsAreLettersAndDigitsInLowerCase) {
  EXPECT_THAT(words_of(" C++20, GPU-fast; caf\xC3\xA9! "),
              ElementsAre("c", "20", "gpu", "fast", "caf\xC3\xA9"));
  EXPECT_TRUE(words_of("-- .").empty());
}

TEST(Bm25, RareWordsAndShortTextsComeFirst) {
  const std::vector<std::string> texts = {
      "a chess game", "a game", "play a game of chess with a very long manual", "a", "editor"};
  const Bm25 index(texts);
  EXPECT_THAT(index.best("Chess game?", 10), ElementsAre(0, 2, 1));
  EXPECT_THAT(index.best("chess", 1), ElementsAre(0));
  EXPECT_TRUE(index.best("nothing", 5).empty());
  EXPECT_EQ(index.scores("chess")[3], 0);
  EXPECT_TRUE(Bm25({}).best("chess", 5).empty());
}

TEST(Debian, PackagesGetTheirLongDescriptions) {
  const std::vector<std::string> packages = {
      "Package: chess\nSource: chess-src (1.2)\nVersion: 1\nDescription: board game\n"
      "Description-md5: 11\nTag: a, b,\n c\nSection: games\n\n"
      "Package: bare\nDescription: nothing more\nDescription-md5: 22\nSection: misc\n",
      "Package: chess\nDescription: newer\nDescription-md5: 33\n\n"
      "Package: other\nSection: games\nDescription-md5: 33\nDescription: newer\n"};
  const std::vector<std::string> translations = {
      "Package: chess\nDescription-md5: 11\nDescription-en: board game\n Play against\n"
      " the computer.\n .\n Modes:\n  * easy\n  * hard\n Enjoy.\n\n"
      "Package: bare\nDescription-md5: 22\nDescription-en: nothing more\n",
      "Package: chess\nDescription-md5: 33\nDescription-en: newer\n Text.\n"};
  const auto found = parse_debian_packages(packages, translations);
  ASSERT_EQ(found.size(), 2);
  EXPECT_EQ(found[0].name, "chess");
  EXPECT_EQ(found[0].source, "chess-src");
  EXPECT_EQ(found[0].section, "games");
  EXPECT_EQ(found[0].synopsis, "board game");
  EXPECT_EQ(found[0].description, "Play against the computer.\nModes:\n* easy\n* hard Enjoy.");
  EXPECT_EQ(found[1].name, "other");
  EXPECT_EQ(found[1].source, "other");
  EXPECT_EQ(found[1].description, "Text.");
}

TEST(Debian, TheCacheIsReadWithoutApt) {
  const TemporaryFolder folder;
  const std::string path = folder.file("packages.jsonl");
  std::ofstream(path) << "{\"id\":\"chess\",\"source\":\"s\",\"section\":\"games\","
                         "\"synopsis\":\"board game\",\"text\":\"Play.\"}\n";
  const auto packages = debian_packages(path, [] { FAIL() << "nothing is to be fetched"; });
  ASSERT_EQ(packages.size(), 1);
  EXPECT_EQ(packages[0].section, "games");
  EXPECT_EQ(packages[0].description, "Play.");
  std::ofstream(path) << "{\"id\":\"chess\"}\n";
  EXPECT_THROW(debian_packages(path), IoError);
}

TEST(HeatPicture, HeavierTokensAreDarker) {
  const std::vector<std::vector<float>> rows = {{0.0F, 0.2F, 0.8F}, {0.1F}};
  const Image image = draw_heat(rows);
  EXPECT_EQ(image.width, 18);
  EXPECT_EQ(image.height, 28);
  const auto brightness = [&](int x, int y) {
    const Image::Color color = image.at(x, y);
    return color[0] + color[1] + color[2];
  };
  EXPECT_EQ(brightness(0, 0), 3 * 255);
  EXPECT_LT(brightness(6, 0), brightness(0, 14));
  EXPECT_LT(brightness(12, 0), brightness(6, 0));
  const TemporaryFolder folder;
  write_heat(rows, folder.file("heat.svg"));
  EXPECT_THAT(read_text_file(folder.file("heat.svg")), HasSubstr("<svg"));
  write_heat(rows, folder.file("heat.png"));
  EXPECT_TRUE(read_text_file(folder.file("heat.png")).starts_with("\x89PNG"));
  EXPECT_THROW(write_heat(rows, folder.file("heat.gif")), InvalidArgument);
}

}  // namespace
}  // namespace perpend
