/* What the latch tree's headers take from the rest of Linux, for a user process with GCC's atomics. */

#ifndef KERNEL_SHIM_H
#define KERNEL_SHIM_H

#include <stdbool.h>
#include <stddef.h>

#define __rcu
#ifndef __always_inline
#define __always_inline inline __attribute__((__always_inline__))
#endif
#define unlikely(condition) __builtin_expect(!!(condition), 0)
#define EXPORT_SYMBOL(name)
#define container_of(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))

#define READ_ONCE(place) __atomic_load_n(&(place), __ATOMIC_RELAXED)
#define WRITE_ONCE(place, value) __atomic_store_n(&(place), (value), __ATOMIC_RELAXED)
#define rcu_dereference_raw(place) READ_ONCE(place)
#define rcu_assign_pointer(place, value) __atomic_store_n(&(place), (value), __ATOMIC_RELEASE)

/* The latch: its lowest bit says which of two copies is not being changed. */
typedef struct {
	unsigned sequence;
} seqcount_latch_t;

static __always_inline unsigned raw_read_seqcount_latch(const seqcount_latch_t *latch)
{
	/* Linux relies on the address dependency instead of acquire; on x86-64 both are a plain load. */
	return __atomic_load_n(&latch->sequence, __ATOMIC_ACQUIRE);
}

static __always_inline int raw_read_seqcount_latch_retry(const seqcount_latch_t *latch, unsigned before)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return unlikely(READ_ONCE(latch->sequence) != before);
}

static __always_inline void raw_write_seqcount_latch(seqcount_latch_t *latch)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
	WRITE_ONCE(latch->sequence, latch->sequence + 1);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

#endif
