// SPDX-License-Identifier: Apache-2.0
#include "nas/cli/program.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iostream>
#include <string_view>

#include "nas/cli/torch_program.h"
#include "nas/cli/verbs.h"
#include "nas/core/error.h"
#include "nas/core/exception_text.h"
#include "nas/core/json.h"
#include "nas/core/log.h"
#include "nas/core/stop.h"
#include "nas/core/text.h"

namespace nas {
namespace {

/// The first word that is no option: the verb, which stands before its arguments.
std::string first_word(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (argv[i][0] != '-') return argv[i];
  }
  return "";
}

bool has_word(int argc, char** argv, std::string_view word) {
  return std::any_of(argv + 1, argv + argc, [&](const char* each) { return word == each; });
}

const Verb& known_verb(const std::string& word) {
  std::vector<std::string> names;
  for (const Verb& verb : verbs()) {
    if (word == verb.name) return verb;
    names.emplace_back(verb.name);
  }
  const std::string list = joined(names);
  if (word.empty()) {
    fail(ErrorKind::Usage, "expected a verb: ", list, "; voxnas --help tells more");
  }
  const std::string shown = word.substr(0, 64);
  fail(ErrorKind::Usage,
       "unknown verb ",
       shown,
       did_you_mean(shown, names, ""),
       " (the verbs are ",
       list,
       ")");
}

/// What the parser complains of, in words that name the verb, the option and the way on. A word
/// that nobody expected is told before an option that is missing: it is a slip for that one more
/// often than not.
std::string parse_complaint(const CLI::ParseError& error, const std::string& verb, CLI::App& sub) {
  const std::string help = " (voxnas " + verb + " --help lists the options)";
  std::vector<std::string> known;
  for (const CLI::Option* option : sub.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    for (const std::string& name : option->get_snames()) known.push_back("-" + name);
  }
  const std::vector<std::string> extras = sub.remaining();
  for (const std::string& extra : extras) {
    if (extra.size() < 2 || extra[0] != '-') continue;
    const std::string name = extra.substr(0, std::min<std::size_t>(extra.find('='), 64));
    return concat_text(verb, ": unknown option ", name, did_you_mean(name, known, ""), help);
  }
  if (!extras.empty() && dynamic_cast<const CLI::RequiredError*>(&error) == nullptr) {
    return concat_text(
        verb, ": did not expect the word '", extras.front().substr(0, 64), "'", help);
  }
  return concat_text(verb, ": ", error.what(), help);
}

int run_parsed(int argc, char** argv, const CommandLine& program) {
  const std::string word = first_word(argc, argv);
  if (has_word(argc, argv, "--version") && has_word(argc, argv, "--libtorch") && word.empty()) {
    if (!program.libtorch_version) become_torch_program(argv);
    std::cout << "voxnas " << NAS_VERSION << "\n" << program.libtorch_version() << std::endl;
    return 0;
  }
  CLI::App app{
      "Searches, trains and deploys 3D segmentation networks for your data set and budget.",
      "voxnas"};
  app.require_subcommand(0, 1);  // none is said by known_verb, in better words
  app.set_version_flag("--version",
                       std::string("voxnas ") + NAS_VERSION,
                       "Print the version and exit; with --libtorch also that of LibTorch");
  const auto carried_out = [&](const Verb& verb) {
    return std::ranges::find(program.commands, verb.name, &Command::name);
  };
  std::function<int()> run;
  for (const Verb& verb : verbs()) {
    CLI::App* sub = app.add_subcommand(verb.name, verb.summary);
    sub->footer(std::string("Example:\n  ") + verb.example);
    const auto command = carried_out(verb);
    if (command == program.commands.end() || word != verb.name) continue;
    sub->final_callback([&run, body = command->setup(*sub)] { run = body; });
  }
  if (!word.empty() || argc < 2) {
    const Verb& verb = known_verb(word);
    if (carried_out(verb) == program.commands.end()) {
      NAS_CHECK_KIND(Usage, verb.needs_torch, verb.name, ": is a verb of voxnas, beside this file");
      become_torch_program(argv);
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error, std::cout, std::cerr);
    NAS_CHECK_KIND(Usage, !word.empty(), "unknown option ", argv[1], " (see voxnas --help)");
    fail(ErrorKind::Usage, parse_complaint(error, word, *app.get_subcommand(word)));
  }
  NAS_CHECK_KIND(Internal, run != nullptr, word, ": nothing to run");
  install_stop_handler();
  return run();
}

}  // namespace

int run_program(int argc, char** argv, const CommandLine& program) {
  try {
    const int code = run_parsed(argc, argv, program);
    NAS_CHECK_KIND(Io, std::cout.flush(), "stdout: could not write the result");
    return code;
  } catch (const Error& error) {
    log_line(LogLevel::Error, error.what());
    return error.kind() == ErrorKind::Usage ? 2 : 1;
  } catch (const std::exception& error) {
    log_line(LogLevel::Error, exception_text(error));
    return 1;
  }
}

}  // namespace nas
