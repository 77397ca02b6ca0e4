// Runs operators, one or a whole step of them, with a team of threads.

#include <omp.h>

#include "api.h"
#include "team.h"

namespace lathe {

struct Call {
  Operator run;
  const void* arguments;
};

LATHE_API void run(const Call* calls, long count, int threads) {
#pragma omp parallel num_threads(threads) if (threads > 1)
  for (long i = 0; i < count; i++) {
    calls[i].run(calls[i].arguments);
#pragma omp barrier
  }
}

LATHE_API void run_one(Operator operation, const void* arguments, int threads) {
#pragma omp parallel num_threads(threads) if (threads > 1)
  operation(arguments);
}

}  // namespace lathe
