// What every verb is made of: its declaration, the global flags, and the objects that they lead to.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/crew.h"
#include "base/json_fwd.h"
#include "base/loop.h"
#include "base/result.h"
#include "cli/cli.h"
#include "cli/containers.h"
#include "cli/flags.h"
#include "cli/printer.h"
#include "cli/signals.h"
#include "driver/driver.h"
#include "driver/options/config.h"
#include "oci/images.h"

namespace cli {

/// Flags that every verb takes, before or after its name.
struct Globals {
  std::string data_dir;
  std::string state_dir;
  std::string shim;
  std::string runtime;
  std::string image_helper;
  std::string hosts_dir;
  std::string auth_config;
  std::string log_level = "warn";
  bool help = false;

  void declare(Flags& flags);
  /// Takes folders that no flag names from CONTAINERD_DRIVER_DATA_DIR and CONTAINERD_DRIVER_STATE_DIR, sets the log's
  /// level, and makes paths absolute; kInvalidArgument for a level that there is none of, kNotFound when a relative
  /// path has no working directory to start from.
  base::Status apply();
  /// kNotFound: a data_dir was named and is not there.
  base::Status check_data_dir() const;
  /// The plugin's defaults with what was given here.
  driver::PluginOptions options() const;
};

/// One call of a verb: what its function gets.
struct Call {
  Globals globals;
  std::vector<std::string> args;  ///< after the verb
  Io& io;
  std::vector<Flags::Description>* described = nullptr;  ///< only tell which flags there are
};

struct Verb {
  std::string_view name;
  std::string_view arguments;  ///< as the usage shows them: "[flags] IMAGE [COMMAND…]"
  std::string_view summary;
  int (*run)(const Verb& self, Call& call);
  bool needs_store;  ///< a data_dir that was named and is not there is a mistake, not an empty store
  std::array<std::string_view, 2> examples;  ///< what its help shows, without the program's name
};

/// All of them, in the order of the usage (verb_table.cc).
std::span<const Verb> verbs();
/// A verb's own flags, without the global ones.
std::vector<Flags::Description> flags_of(const Verb& verb);
/// Those of every verb.
std::vector<Flags::Description> global_flags();
/// The words that follow `image`, `container` and the like; none of others.
std::vector<std::string> words_of(const Verb& verb);
std::string usage_text();

// One per file.
int run_command(const Verb& self, Call& call);
int create_command(const Verb& self, Call& call);
int start_command(const Verb& self, Call& call);
int restart_command(const Verb& self, Call& call);
int logs_command(const Verb& self, Call& call);
int cp_command(const Verb& self, Call& call);
int pull_command(const Verb& self, Call& call);
int images_command(const Verb& self, Call& call);
int load_command(const Verb& self, Call& call);
int login_command(const Verb& self, Call& call);
int logout_command(const Verb& self, Call& call);
int history_command(const Verb& self, Call& call);
int df_command(const Verb& self, Call& call);
int pin_command(const Verb& self, Call& call);
int unpin_command(const Verb& self, Call& call);
int image_prune_command(const Verb& self, Call& call);
int system_command(const Verb& self, Call& call);
int save_command(const Verb& self, Call& call);
int tag_command(const Verb& self, Call& call);
int untag_command(const Verb& self, Call& call);
int rmi_command(const Verb& self, Call& call);
int gc_command(const Verb& self, Call& call);
int fsck_command(const Verb& self, Call& call);
int ps_command(const Verb& self, Call& call);
int inspect_command(const Verb& self, Call& call);
int rm_command(const Verb& self, Call& call);
int rename_command(const Verb& self, Call& call);
int exec_command(const Verb& self, Call& call);
int stop_command(const Verb& self, Call& call);
int kill_command(const Verb& self, Call& call);
int wait_command(const Verb& self, Call& call);
int top_command(const Verb& self, Call& call);
int stats_command(const Verb& self, Call& call);
int update_command(const Verb& self, Call& call);
int diff_command(const Verb& self, Call& call);
int export_command(const Verb& self, Call& call);
int debug_command(const Verb& self, Call& call);
int attach_command(const Verb& self, Call& call);
int pause_command(const Verb& self, Call& call);
int unpause_command(const Verb& self, Call& call);
int network_command(const Verb& self, Call& call);
int port_command(const Verb& self, Call& call);
int image_command(const Verb& self, Call& call);
int container_command(const Verb& self, Call& call);
int config_command(const Verb& self, Call& call);
int doctor_command(const Verb& self, Call& call);
int completion_command(const Verb& self, Call& call);
/// Writes the manual pages into a folder: `containerd-driver man DIR`, for the build; no verb of its own.
int write_manual(const std::string& dir, Io& io);
int schema_command(const Verb& self, Call& call);
int version_command(const Verb& self, Call& call);
int help_command(const Verb& self, Call& call);

/// Adds the global flags to a verb's own, parses, sets the log level, and answers --help. nullopt: the verb is done,
/// with `exit_code`.
std::optional<std::vector<std::string>> parse_flags(const Verb& self, Call& call, Flags& flags, Flags::Stop stop,
                                                    int& exit_code);

/// The same for a verb that takes flags only. False: the verb is done.
bool parse_flags_only(const Verb& self, Call& call, Flags& flags, int& exit_code);

/// fail() with a pointer to the verb's help.
int misuse(const Verb& self, Io& io, const base::Error& error);

/// "" or "json"; anything else is a misuse.
base::Status check_output_format(const std::string& format);

/// The driver with its threads, configured for this call. Members are destroyed in the right order.
struct DriverSession {
  base::Loop loop;
  base::Crew crew{{.name = "driver"}};
  driver::Driver driver{loop, crew};
};
/// kPermissionDenied unless root.
base::Result<std::unique_ptr<DriverSession>> open_driver(const Globals& globals);

/// fail(), but where a signal has ended what failed: 128 + the signal, and no words.
int fail_unless_stopped(Io& io, const SignalRelay& signals, const base::Error& error, int exit_code = kExitFailure);
/// fail() of a verb that runs a command, where our own output takes no more: as of a program that SIGPIPE has killed,
/// if that is why.
int fail_lost_output(Io& io, const base::Error& error);

/// The images of --data-dir, with what it takes to pull.
///   errors  kNotFound no image helper
base::Result<std::unique_ptr<oci::Images>> open_images(const Globals& globals);
/// A pull that a person waits for: as long as it takes, for Ctrl-C ends it; with the credentials of --auth-config.
///   errors  kInvalidArgument malformed reference · kFailedPrecondition --auth-config does not work
base::Result<oci::PullRequest> pull_request(const base::Context& ctx, const Globals& globals,
                                            const std::string& reference);

/// Collects in --data-dir by what its containers use; nothing at all where there is no store.
///   errors  as oci::Images::collect
base::Result<oci::GcReport> collect_images(const Globals& globals, const oci::GcRequest& request);
/// Notes them, and says with which exit code.
int tell_problems(Io& io, const oci::GcReport& report);

/// One container, for a verb that acts on it.
struct FoundTask {
  std::unique_ptr<DriverSession> session;
  driver::TaskStatus task;
  std::optional<Definition> definition;
  bool is_created = false;
};
///   errors  as open_driver, list_containers and find_container of those
base::Result<FoundTask> find_container(const Globals& globals, const std::string& wanted);
///   errors  as find_container · kFailedPrecondition it is not running
base::Result<FoundTask> find_running(const Globals& globals, const std::string& wanted);
base::Json json_of_task(const driver::TaskStatus& task);
/// RFC 3339, null for 0.
base::Json json_time(std::int64_t unix_seconds);

/// What an ID means that an image with several names has.
enum class OfSeveralNames { kFirst, kRefused };
/// The image that a person means: its name, or else the beginning of its digest or its ID, as `images` prints them.
/// Returns the reference that the store knows it by.
///   errors  kNotFound · kInvalidArgument several images begin so, or the one has several names and kRefused was given
base::Result<std::string> find_image(oci::Images& images, const std::string& wanted,
                                     OfSeveralNames choice = OfSeveralNames::kFirst);
/// Only by the digest or the ID.
///   errors  kNotFound also for what is none · kInvalidArgument as find_image
base::Result<std::string> image_of_digest(oci::Images& images, const std::string& wanted,
                                          OfSeveralNames choice = OfSeveralNames::kFirst);

}  // namespace cli
