// A plugin process over the fake driver, for go_plugin_test.cc: what src/main.cc does when an agent starts it.
#include <unistd.h>

#include "base/crew.h"
#include "base/loop.h"
#include "driver/driver.h"
#include "plugin/go_plugin.h"

int main() {
  base::Loop loop;
  base::Crew crew({.name = "calls"});
  driver::Driver driver(loop, crew);
  ::_exit(plugin::run_plugin(driver, loop, crew, "1.2.3"));
}
