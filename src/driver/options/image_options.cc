// The rows of the option table about images: which one, from where, with whose credentials, and when it goes again.
#include <algorithm>

#include "driver/image/policy.h"
#include "driver/image/verifier.h"
#include "driver/options/rows.h"

namespace driver {

using base::Error;
using base::Status;
using base::str;
using std::chrono::milliseconds;

namespace {

Status check_auth(const std::string& where, const RegistryAuth& auth) {
  if (auth.username.empty() == auth.password.empty()) return {};
  return Error::invalid_argument(
      str(where, auth.username.empty() ? ".username" : ".password", " is missing: give both, or neither"));
}

Status check_image_gc(const std::string& where, const ImageGcOptions& gc) {
  if (gc.low_percent > gc.high_percent) {
    return Error::invalid_argument(str(where, ".low_percent = ", gc.low_percent, " is above ", where,
                                       ".high_percent = ", gc.high_percent, ": room is made from high down to low"));
  }
  return {};
}

Status check_directories(const std::string& where, const std::string& value) {
  for (std::string_view rest = value; !rest.empty();) {
    const std::string folder(rest.substr(0, rest.find(':')));
    rest.remove_prefix(std::min(rest.size(), folder.size() + 1));
    TRY_VOID(check_absolute(where, folder));
  }
  return {};
}

OptionTable<RegistryAuth> login_rows(const char* server_address) {
  return {
      text("username", &RegistryAuth::username,
           {.example = "\"ci\"", .text = "User name at the registry.", .check = check_name}),
      text("password", &RegistryAuth::password,
           {.example = "\"${REGISTRY_PASSWORD}\"",
            .text = "Password or access token. It is never logged and never written to disk.",
            .secret = true}),
      text("server_address", &RegistryAuth::server_address,
           {.example = "\"registry.example.com:5000\"", .text = server_address, .check = check_name}),
      without_effect<RegistryAuth>("email", "string",
                                   {.example = "\"ci@example.com\"", .text = "Known from Docker's driver."}),
  };
}

// `false` asks for something, too.
Option<RegistryAuth> tls_verify_row() {
  const RowText row = {.example = "true",
                       .text =
                           "Known from Podman's driver. Registries are always verified; the node names others in "
                           "`hosts.toml`."};
  return {make_doc("tls_verify", "bool", "no effect", "", row),
          [](RegistryAuth& out, const base::Json& value, const std::string& where) -> Status {
            if (value != "") out.without_effect.push_back(where);
            return {};
          }};
}

const OptionTable<RegistryAuth>& auth_table() {
  static const OptionTable<RegistryAuth> table = joined<RegistryAuth>(
      {login_rows("The registry that the credentials are for. Unset: the registry of the image."),
       {without_effect<RegistryAuth>("config", "string",
                                     {.example = "\"/root/.docker/config.json\"",
                                      .text = "A file of credentials is the node's to name: `auth` of the plugin."}),
        tls_verify_row()}});
  return table;
}

const OptionTable<RegistryAuth>& plugin_auth_table() {
  static const OptionTable<RegistryAuth> table = joined<RegistryAuth>(
      {login_rows("The registry that the credentials are for; images of other registries are fetched without them. "
                  "`\"*\"`: every registry that a job names, which lets any job have them sent anywhere. Unset: "
                  "`docker.io`."),
       {text("config", &RegistryAuth::config,
             {.example = "\"/root/.docker/config.json\"",
              .text = "A Docker config.json with credentials (`auths`) and helpers (`credHelpers`, `credsStore`).",
              .check = check_absolute}),
        text("helper", &RegistryAuth::helper,
             {.example = "\"ecr-login\"",
              .text = "A credential helper for all registries: `docker-credential-NAME` in the usual folders, or an "
                      "absolute path.",
              .check = check_name})}});
  return table;
}

const OptionTable<ImageGcOptions>& image_gc_table() {
  static const OptionTable<ImageGcOptions> table = {
      boolean("enabled", &ImageGcOptions::enabled,
              {.example = "false", .text = "`false`: images are only removed by `containerd-driver gc` and `rmi`."}),
      duration("interval", &ImageGcOptions::interval, milliseconds(1000),
               {.example = "\"1h\"", .text = "How often the store is checked."}),
      number("high_percent", &ImageGcOptions::high_percent, 1, 100,
             {.example = "90",
              .text = "When more than this percentage of the file system's bytes or inodes is in use, the least "
                      "recently used images are removed …"}),
      number("low_percent", &ImageGcOptions::low_percent, 1, 100,
             {.example = "75", .text = "… until no more than this is in use."}),
      size("max_size", &ImageGcOptions::max_size,
           {.example = "\"20GiB\"",
            .text = "What images may take on disk, compressed and unpacked layers together. Unset: as much as "
                    "`high_percent` allows."}),
      duration("unused_for", &ImageGcOptions::unused_for, milliseconds(1000),
               {.example = "\"168h\"",
                .text = "An image that no task has used for this long is removed, even if there is room."}),
      duration("keep_for", &ImageGcOptions::keep_for, milliseconds(0),
               {.example = "\"1h\"", .text = "An image that was pulled or used within this time is always kept."}),
      list("keep", &ImageGcOptions::keep,
           {.example = "[\"docker.io/library/redis:7\", \"registry.example.com/base/*\"]",
            .text = "Images that are always kept: full references, in which `*` matches anything.",
            .check = check_name}),
  };
  return table;
}

Status check_image_verifier(const std::string& where, const ImageVerifierOptions& options) {
  if (!options.bin_dir.empty()) return {};
  return base::Error::invalid_argument(
      str(where, ".bin_dir is missing: give the folder with the verifiers, like /opt/image-verifiers, or leave ", where,
          " out"));
}

const OptionTable<ImageVerifierOptions>& image_verifier_table() {
  static const OptionTable<ImageVerifierOptions> table = {
      text("bin_dir", &ImageVerifierOptions::bin_dir,
           {.example = "\"/opt/image-verifiers\"",
            .text = "The folder with the programs: nothing else may be in it, and only root may write to it.",
            .check = check_absolute}),
      number("max_verifiers", &ImageVerifierOptions::max_verifiers, 1, kVerifiersMax,
             {.example = "3", .text = "With more programs than this in the folder no image is accepted."}),
      duration(
          "per_verifier_timeout", &ImageVerifierOptions::per_verifier_timeout, std::chrono::milliseconds(100),
          {.example = "\"30s\"", .text = "How long one program may take. It counts towards `image_pull_timeout`."}),
  };
  return table;
}

}  // namespace

OptionTable<TaskOptions> image_rows() {
  return {
      text("image", &TaskOptions::image,
           {.example = "\"redis:7\"",
            .text =
                "The image to run: `[registry/]name[:tag][@digest]`. Without a registry it is Docker Hub's. Or a file "
                "that the job brings along: `docker-archive:PATH[:NAME]`, `oci-archive:PATH[:NAME]`, or "
                "`oci:PATH[:NAME]` for the folder of an OCI layout; PATH is relative to the task's folder.",
            .required = true,
            .check = check_name}),
      text("platform", &TaskOptions::platform,
           {.example = "\"linux/arm64\"",
            .text = "Which platform's image is used, if not the node's: `linux/arm64`, `linux/arm/v7`. To run it, the "
                    "kernel needs an interpreter for its programs (binfmt_misc, with qemu). A name refers to one "
                    "platform at a time: asking for another one pulls the image again.",
            .check = check_platform}),
      duration("image_pull_timeout", &TaskOptions::image_pull_timeout, milliseconds(1),
               {.example = "\"10m\"", .text = "How long fetching and unpacking the image may take."}),
      choice("image_pull_policy", &TaskOptions::image_pull_policy,
             {{"missing", PullPolicy::kMissing}, {"always", PullPolicy::kAlways}, {"never", PullPolicy::kNever}},
             {.example = "\"missing\"",
              .text = "When the registry is asked: `missing` if the image is not on this node, `always` (what has not "
                      "changed is not fetched again), or `never`. Unset: `missing`, but for the tag `latest` the "
                      "registry is asked, and the local image is used if it cannot be reached."}),
      boolean("force_pull", &TaskOptions::force_pull,
              {.example = "true", .text = "The same as `image_pull_policy = \"always\"`."}),
      block("auth", &TaskOptions::auth, auth_table(), check_auth,
            {.example = "username = \"ci\"\npassword = \"secret\"",
             .text = "Credentials for the image's registry. They take precedence over the plugin's."}),
      text("load", &TaskOptions::load,
           {.example = "\"redis.tar\"",
            .text =
                "As in Docker's driver: an archive in the task's `local` folder (an artifact) that `image` is taken "
                "from. Where there is none it has no effect. The same as `image = \"docker-archive:local/FILE:NAME\"`.",
            .check = check_name}),
      boolean("auth_soft_fail", &TaskOptions::auth_soft_fail,
              {.example = "true",
               .text = "If the node's credential helper or config file does not work, fetch without credentials."}),
  };
}

OptionTable<PluginOptions> node_image_rows() {
  return {
      block("auth", &PluginOptions::auth, plugin_auth_table(), check_auth,
            {.example = "username = \"ci\"\npassword = \"secret\"",
             .text = "Credentials for tasks that have none of their own."}),
      text("hosts_dir", &PluginOptions::hosts_dir,
           {.example = "\"/etc/containerd/certs.d\"",
            .text = "Where `<registry>/hosts.toml` files are looked for, several folders separated by `:`. They name "
                    "mirrors, certificates and plain-HTTP registries in containerd's format, and are read at each "
                    "pull; see registries.md.",
            .check = check_directories}),
      block("image_gc", &PluginOptions::image_gc, image_gc_table(), check_image_gc,
            {.example = "high_percent = 90\nmax_size = \"20GiB\"",
             .text = "When images that no task uses are removed from this node."}),
  };
}

OptionTable<PluginOptions> image_gate_rows() {
  return {
      list(
          "allowed_registries", &PluginOptions::allowed_registries,
          {.example = "[\"docker.io/library\", \"*.example.com\", \"docker-archive\"]",
           .text = "Where images may come from: registries, repositories and all below them, `*.` for every name under "
                   "a domain; `docker-archive`, `oci-archive` and `oci` for files that jobs bring along. Names are "
                   "compared in full: `redis` is `docker.io/library/redis`. Unset: from anywhere. See security.md.",
           .check = check_registry_pattern}),
      boolean("require_digest", &PluginOptions::require_digest,
              {.example = "true",
               .text = "Refuse images that are not named by their digest (`name@sha256:…`), and files."}),
      block("image_verifier", &PluginOptions::image_verifier, image_verifier_table(), check_image_verifier,
            {.example = "bin_dir = \"/opt/image-verifiers\"",
             .text = "Programs that must approve each image before it is fetched, called as containerd calls its image "
                     "verifiers. See security.md."}),
  };
}

}  // namespace driver
