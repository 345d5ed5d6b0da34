// The part of the table of verbs that is about images beside pulling them.
#include "cli/verb.h"

namespace cli {

std::vector<Verb> image_verbs() {
  return {
      {"save",
       "[flags] IMAGE…",
       "write images into an archive",
       save_command,
       true,
       {"save -o redis.tar docker.io/library/redis:7",
        "save --format oci-archive redis:7 | ssh node2 containerd-driver load"}},
      {"tag",
       "IMAGE NAME…",
       "give an image more names",
       tag_command,
       true,
       {"tag redis:7 registry.example/cache:1", "tag 3f57d9401f8d localhost/redis:good"}},
      {"untag",
       "IMAGE NAME…",
       "take names from an image, which keeps its others",
       untag_command,
       true,
       {"untag redis:7 localhost/redis:good", "untag 3f57d9401f8d redis:6 redis:latest"}},
      {"login",
       "[flags] [REGISTRY]",
       "check a user's password at a registry, and keep it for pulls",
       login_command,
       false,
       {"login -u ci --password-stdin registry.example.com < password", "login --get-login registry.example.com"}},
      {"logout",
       "[flags] [REGISTRY]",
       "forget the password of a registry",
       logout_command,
       false,
       {"logout registry.example.com", "logout --all"}},
  };
}

}  // namespace cli
