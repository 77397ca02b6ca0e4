// Runs operators, one or a whole step of them, with a team of threads.

#include <omp.h>

#include <cstdint>

#include "api.h"
#include "team.h"

namespace lathe {

struct Call {
  Operator run;
  const void* arguments;
  int64_t alone;  // small work, for which the first thread is a team of its own
};

LATHE_API void run(const Call* calls, long count, int threads) {
#pragma omp parallel num_threads(threads) if (threads > 1)
  for (long i = 0; i < count; i++) {
    // Threads that meet wait for the slowest of them, so they meet only where work passes from one to another.
    if (i > 0 && !(calls[i - 1].alone && calls[i].alone)) {
#pragma omp barrier
    }
    if (!calls[i].alone) {
      calls[i].run(calls[i].arguments);
    } else if (omp_get_thread_num() == 0) {
#pragma omp parallel num_threads(1)
      calls[i].run(calls[i].arguments);
    }
  }
}

LATHE_API void run_one(Operator operation, const void* arguments, int threads) {
#pragma omp parallel num_threads(threads) if (threads > 1)
  operation(arguments);
}

}  // namespace lathe
