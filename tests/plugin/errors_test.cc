#include "plugin/errors.h"

#include <doctest/doctest.h>

#include "plugin/proto/structs.pb.h"
#include "plugin/proto/well_known.pb.h"

using base::Code;

TEST_CASE("only StartTask's transient errors are recoverable") {
  for (int value = 0; value <= 16; ++value) {
    const auto code = static_cast<Code>(value);
    const bool transient = code == Code::kUnavailable || code == Code::kDeadlineExceeded ||
                           code == Code::kResourceExhausted || code == Code::kAborted;
    const auto start = plugin::start_status_of({code, "why"});
    CHECK(start.details_bin.empty() == !transient);
    CHECK((start.code == Code::kFailedPrecondition) == (transient || code == Code::kFailedPrecondition));
    for (const auto& status : {start, plugin::status_of({code, "why"})}) {
      CHECK(status.code != Code::kUnavailable);
      CHECK(status.code != Code::kCancelled);
      CHECK(status.code != Code::kOk);
      CHECK(status.message == "why");
    }
    CHECK(plugin::status_of({code, "why"}).details_bin.empty());
  }
}

TEST_CASE("the details repeat code and message, and say recoverable") {
  const auto status = plugin::start_status_of(base::Error::unavailable("registry: \xff connection refused"));
  nomad::wkt::RpcStatus details;
  REQUIRE(details.ParseFromString(status.details_bin));
  CHECK(details.code() == 9);
  CHECK(details.message() == "registry: \\xff connection refused");
  CHECK(details.message() == status.message);
  REQUIRE(details.details_size() == 1);
  CHECK(details.details(0).type_url() == "type.googleapis.com/hashicorp.nomad.plugins.shared.structs.RecoverableError");
  nomad::structs::RecoverableError error;
  REQUIRE(error.ParseFromString(details.details(0).value()));
  CHECK(error.recoverable());
}

TEST_CASE("a message stays within what a header carries") {
  const auto status = plugin::start_status_of(base::Error::aborted(std::string(100'000, 'x')));
  CHECK(status.message.size() == grpc::kStatusMessageBytesMax);
  CHECK(status.details_bin.size() < 10'000);
}
