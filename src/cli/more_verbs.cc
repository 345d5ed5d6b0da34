// The part of the table of verbs that is about images beside pulling them, and about the node.
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
      {"history",
       "[flags] IMAGE",
       "show how an image was made, newest first",
       history_command,
       true,
       {"history docker.io/library/redis:7", "history --no-trunc --format '{{.CreatedBy}}' redis:7"}},
      {"df", "[flags]", "show what images and containers take of the disk", df_command, true, {"df", "system df -v"}},
      {"pin",
       "IMAGE…",
       "keep images, whatever collections remove",
       pin_command,
       true,
       {"pin registry.example.com/base:1", "images -o json"}},
      {"unpin",
       "IMAGE…",
       "let collections remove images again",
       unpin_command,
       true,
       {"unpin registry.example.com/base:1", "gc --dry-run"}},
  };
}

std::vector<Verb> node_verbs() {
  return {
      {"system", "df …", "the verbs of the node, likewise", system_command},
      {"config",
       "[flags] explain OPTION",
       "explain an option of the plugin or of jobs",
       config_command,
       false,
       {"config explain image_gc.keep", "config explain -o json plugin.auth"}},
      {"completion",
       "bash|zsh|fish",
       "print what makes a shell complete this command line",
       completion_command,
       false,
       {"completion bash > /etc/bash_completion.d/containerd-driver", "completion fish | source"}},
  };
}

}  // namespace cli
