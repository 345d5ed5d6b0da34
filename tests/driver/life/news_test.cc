#include "driver/life/news.h"

#include <doctest/doctest.h>

using driver::News;

TEST_CASE("a task is told what it has not heard yet, whatever its invocation") {
  News news;
  driver::TaskSpec spec;
  spec.alloc_id = "a";
  spec.name = "web";
  spec.id.text = "a/web/1";
  CHECK(news.hear(spec, "image", "one") == News::Heard::kFirst);
  spec.id.text = "a/web/2";
  CHECK(news.hear(spec, "image", "one") == News::Heard::kSame);
  CHECK(news.hear(spec, "network", "one") == News::Heard::kFirst);
  CHECK(news.hear(spec, "image", "two") == News::Heard::kChanged);
  CHECK(news.hear(spec, "image", "two") == News::Heard::kSame);
  spec.name = "db";
  CHECK(news.hear(spec, "image", "two") == News::Heard::kFirst);
}
