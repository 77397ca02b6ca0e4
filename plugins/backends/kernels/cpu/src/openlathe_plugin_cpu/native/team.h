// How threads share an operator.
//
// An operator is a function that every thread of a team calls with the same arguments. It divides its work by orphaned
// OpenMP constructs (`omp for`, `omp single`, `omp barrier`), leaves its last loop with `nowait`, and may begin at
// once with what operators before it wrote (run.cpp sees to that). So one parallel region holds a single operator as well
// as a whole step.
#pragma once

#include <omp.h>

#include "scratch.h"

namespace lathe {

using Operator = void (*)(const void* arguments);

// What one thread takes of `count` equal pieces.
struct Share {
  long begin, end;
  explicit Share(long count) {
    const long threads = omp_get_num_threads(), rank = omp_get_thread_num();
    begin = count * rank / threads;
    end = count * (rank + 1) / threads;
  }
};

// Memory for the whole team, valid until its owner asks for room again; to be called by all threads.
template <class E>
E* shared_room(Scratch& own, std::size_t count) {
  E* room;
#pragma omp single copyprivate(room)
  room = own.room<E>(count);
  return room;
}

}  // namespace lathe
