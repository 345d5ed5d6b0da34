// Named fault points: places where a test can make the program fail, stall or die. Compiled in only with -Dfaults=true;
// a release binary contains neither the names nor the code.
//
//   FAULT=<point>:<n>*<action>[,<point>:…]   e.g.  FAULT="start.spec.written:1*kill,layer.mid:2*error(ENOSPC)"
//   action  kill            SIGKILL to ourselves
//           error(<ERRNO>)  the point returns that error
//           delay(<ms>)     sleeps
//   n       fires at the n-th passage of the point
#pragma once

#include "base/result.h"

namespace base {

#ifdef CD_FAULT_POINTS
Status fault_point(const char* name);
#else
inline Status fault_point(const char* /*name*/) {
  return {};
}
#endif

}  // namespace base

/// FAULT_POINT("start.bundle.written"): in a function that returns a Result.
#ifdef CD_FAULT_POINTS
#define FAULT_POINT(name) TRY_VOID(::base::fault_point(name))
#else
#define FAULT_POINT(name) \
  do {                    \
  } while (false)
#endif
