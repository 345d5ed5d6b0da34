#include "base/fault.h"

#include <doctest/doctest.h>

#include <cstdlib>

namespace {
base::Status passes_point() {
  FAULT_POINT("test.point");
  return {};
}
}  // namespace

#ifdef CD_FAULT_POINTS
TEST_CASE("a fault point fires at its n-th passage only") {
  ::setenv("FAULT", "other:1*kill,test.point:2*error(ENOSPC)", 1);
  CHECK(passes_point().has_value());
  CHECK_EQ(passes_point().error().code, base::Code::kResourceExhausted);
  CHECK(passes_point().has_value());
}
#else
TEST_CASE("without -Dfaults a fault point is nothing") {
  ::setenv("FAULT", "test.point:1*kill", 1);
  CHECK(passes_point().has_value());
}
#endif
