#include "cni/rules.h"

#include <doctest/doctest.h>

namespace {

constexpr char kListed[] = R"(-P PREROUTING ACCEPT
-P POSTROUTING ACCEPT
-N CNI-aaa
-N CNI-bbb
-N CNI-HOSTPORT-MASQ
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A POSTROUTING -s 10.1.0.2/32 -m comment --comment "name: \"net\" id: \"web-1\"" -j CNI-aaa
-A POSTROUTING -s 10.1.0.3/32 -m comment --comment "name: \"net\" id: \"web-11\"" -j CNI-bbb
-A POSTROUTING -s 10.1.0.4/32 -m comment --comment "name: \"net\" id: \"web-1\"" -j MASQUERADE
-A CNI-aaa -d 10.1.0.0/24 -m comment --comment "name: \"net\" id: \"web-1\"" -j ACCEPT
-A CNI-aaa ! -d 224.0.0.0/4 -m comment --comment "name: \"net\" id: \"web-1\"" -j MASQUERADE
)";

}  // namespace

TEST_CASE("rules of one container and the chains that they lead to are removed, and nobody else's") {
  CHECK(cni::removal_of_rules(kListed, "net", "web-1") ==
        "*nat\n"
        "-D POSTROUTING -s 10.1.0.2/32 -m comment --comment \"name: \\\"net\\\" id: \\\"web-1\\\"\" -j CNI-aaa\n"
        "-F CNI-aaa\n"
        "-X CNI-aaa\n"
        "COMMIT\n");
  CHECK(cni::removal_of_rules(kListed, "net", "web").empty());
  CHECK(cni::removal_of_rules(kListed, "other", "web-1").empty());
  CHECK(cni::removal_of_rules("", "net", "web-1").empty());
}
