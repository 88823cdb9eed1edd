/* See window.h. */
#include "bridge/window.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>

#define RING_CAPACITY_MIN 256u

/* Rings ------------------------------------------------------------------------------------------------ */

static uint64_t ring_count(const struct window_ring *ring)
{
	return ring->tail - ring->head;
}

static struct window_write **ring_slot(const struct window_ring *ring, uint64_t position)
{
	raft_assert(position >= ring->head && position < ring->tail);
	return &ring->slots[position & (ring->capacity - 1)];
}

static int ring_reserve(struct window_ring *ring)
{
	if (ring_count(ring) < ring->capacity)
		return 0;
	uint64_t capacity = ring->capacity == 0 ? RING_CAPACITY_MIN : ring->capacity * 2;
	struct window_write **slots = malloc(capacity * sizeof(struct window_write *));
	if (slots == NULL)
		return -ENOMEM;
	for (uint64_t position = ring->head; position < ring->tail; position++)
		slots[position & (capacity - 1)] = *ring_slot(ring, position);
	free(ring->slots);
	ring->slots = slots;
	ring->capacity = capacity;
	return 0;
}

static void ring_push_tail(struct window_ring *ring, struct window_write *write)
{
	raft_assert(ring_count(ring) < ring->capacity);
	ring->tail++;
	*ring_slot(ring, ring->tail - 1) = write;
}

static void ring_push_head(struct window_ring *ring, struct window_write *write)
{
	raft_assert(ring_count(ring) < ring->capacity && ring->head > 0);
	ring->head--;
	*ring_slot(ring, ring->head) = write;
}

/* Life ------------------------------------------------------------------------------------------------- */

/* Waiting positions start high: writes that give their number back are put in front. */
#define WAITING_START (UINT64_C(1) << 62)

void window_init(struct window *window)
{
	*window = (struct window){0};
	window->numbered.head = window->numbered.tail = 1;
	window->waiting.head = window->waiting.tail = WAITING_START;
	window->next = window->next_expiry = 1;
}

void window_fini(struct window *window)
{
	free(window->numbered.slots);
	free(window->waiting.slots);
	*window = (struct window){0};
}

bool window_has_room(const struct window *window)
{
	return ring_count(&window->waiting) < WINDOW_WAITING_MAX && window->waiting_bytes < WINDOW_WAITING_BYTES_MAX;
}

bool window_is_empty(const struct window *window)
{
	return ring_count(&window->waiting) == 0 && ring_count(&window->numbered) == 0;
}

int window_push(struct window *window, struct window_write *write)
{
	int r = ring_reserve(&window->waiting);
	if (r < 0)
		return r;
	raft_assert(write->sequence == 0 && write->copies == 0);
	ring_push_tail(&window->waiting, write);
	window->waiting_bytes += write->size;
	return 0;
}

/* Sending ---------------------------------------------------------------------------------------------- */

static bool number_front(struct window *window)
{
	struct window_ring *numbered = &window->numbered;
	struct window_ring *waiting = &window->waiting;
	if (ring_count(waiting) == 0 || ring_count(numbered) >= WINDOW_NUMBERED_MAX)
		return false;
	struct window_write *write = *ring_slot(waiting, waiting->head);
	/* One of any size is always let through. */
	if (ring_count(numbered) > 0 && window->numbered_bytes + write->size > WINDOW_NUMBERED_BYTES_MAX)
		return false;
	if (ring_reserve(numbered) < 0)
		return false; /* no memory now: it waits */
	raft_assert(window->waiting_bytes >= write->size);
	waiting->head++;
	window->waiting_bytes -= write->size;
	ring_push_tail(numbered, write);
	window->numbered_bytes += write->size;
	write->sequence = numbered->tail - 1;
	return true;
}

struct window_write *window_take(struct window *window)
{
	struct window_write *write = NULL;
	raft_assert(window->next >= window->numbered.head && window->next <= window->numbered.tail);
	while (write == NULL) {
		if (window->next == window->numbered.tail && !number_front(window))
			return NULL;
		write = *ring_slot(&window->numbered, window->next);
		window->next++;
	}
	raft_assert(write->sequence == window->next - 1 && !write->in_flight);
	return write;
}

void window_sent(struct window *window, uint64_t first, uint64_t end)
{
	raft_assert(first <= end && end <= window->next);
	for (uint64_t sequence = first; sequence < end; sequence++) {
		struct window_write *write = window_find(window, sequence);
		if (write == NULL)
			continue;
		if (write->copies < UINT16_MAX)
			write->copies++;
		raft_assert(!write->in_flight);
		write->in_flight = true;
		window->n_in_flight++;
	}
}

void window_untake(struct window *window, uint64_t first)
{
	raft_assert(first >= window->numbered.head && first <= window->next);
	window->next = first;
}

uint64_t window_acknowledged(const struct window *window)
{
	return window->numbered.head;
}

struct window_write *window_find(const struct window *window, uint64_t sequence)
{
	if (sequence < window->numbered.head || sequence >= window->numbered.tail)
		return NULL;
	return *ring_slot(&window->numbered, sequence);
}

/* Answers ---------------------------------------------------------------------------------------------- */

static bool land(struct window *window, struct window_write *write, uint64_t epoch)
{
	if (epoch != window->epoch || !write->in_flight)
		return false;
	raft_assert(window->n_in_flight > 0);
	window->n_in_flight--;
	write->in_flight = false;
	return true;
}

bool window_reject(struct window *window, struct window_write *write, uint64_t epoch, uint8_t cause)
{
	raft_assert(write->sequence != 0);
	if (write->copies > 0 && write->copies < UINT16_MAX)
		write->copies--;
	write->cause = cause;
	return land(window, write, epoch);
}

bool window_doubt(struct window *window, struct window_write *write, uint64_t epoch)
{
	raft_assert(write->sequence != 0);
	return land(window, write, epoch);
}

/* Takes a numbered write out of its slot, and the slots that are done off the head. */
static void leave(struct window *window, struct window_write *write)
{
	struct window_ring *numbered = &window->numbered;
	raft_assert(*ring_slot(numbered, write->sequence) == write && window->numbered_bytes >= write->size);
	(void)land(window, write, window->epoch); /* counted out if it was in flight */
	*ring_slot(numbered, write->sequence) = NULL;
	window->numbered_bytes -= write->size;
	write->sequence = 0;
	while (numbered->head < numbered->tail && *ring_slot(numbered, numbered->head) == NULL)
		numbered->head++;
	if (window->next < numbered->head)
		window->next = numbered->head;
	if (window->next_expiry < numbered->head)
		window->next_expiry = numbered->head;
}

void window_done(struct window *window, struct window_write *write)
{
	leave(window, write);
}

void window_restart(struct window *window)
{
	window->epoch++;
	window->next = window->numbered.head;
	for (uint64_t sequence = window->numbered.head; sequence < window->numbered.tail && window->n_in_flight > 0;
	     sequence++) {
		struct window_write *write = *ring_slot(&window->numbered, sequence);
		if (write == NULL || !write->in_flight)
			continue;
		write->in_flight = false;
		window->n_in_flight--;
	}
	raft_assert(window->n_in_flight == 0);
}

void window_void(struct window *window, struct window_write *write, uint32_t size)
{
	raft_assert(write->sequence != 0 && window->numbered_bytes >= write->size);
	write->voided = true;
	window->numbered_bytes -= write->size;
	window->numbered_bytes += size;
	write->size = size;
}

/* Deadlines -------------------------------------------------------------------------------------------- */

/* The first numbered write whose client waits, NULL when none does. Remembers what it passed over. */
static struct window_write *first_unexpired(struct window *window)
{
	for (; window->next_expiry < window->numbered.tail; window->next_expiry++) {
		struct window_write *write = *ring_slot(&window->numbered, window->next_expiry);
		if (write != NULL && !write->abandoned && !write->voided)
			return write;
	}
	return NULL;
}

/* Gives back the numbers at the end of which surely no copy is in any log: those writes wait again. Voided ones are not
 * needed any more there, but keep their place until answered: they are few. */
static void give_numbers_back(struct window *window)
{
	struct window_ring *numbered = &window->numbered;
	while (numbered->tail > numbered->head) {
		struct window_write *write = *ring_slot(numbered, numbered->tail - 1);
		if (write == NULL || write->copies > 0 || write->voided || write->abandoned ||
		    ring_reserve(&window->waiting) < 0)
			break;
		raft_assert(!write->in_flight);
		numbered->tail--;
		window->numbered_bytes -= write->size;
		write->sequence = 0;
		ring_push_head(&window->waiting, write);
		window->waiting_bytes += write->size;
	}
	if (window->next > numbered->tail)
		window->next = numbered->tail;
	if (window->next_expiry > numbered->tail)
		window->next_expiry = numbered->tail;
}

static struct window_write *expire_waiting(struct window *window, uint64_t now_ms)
{
	struct window_ring *waiting = &window->waiting;
	if (ring_count(waiting) == 0)
		return NULL;
	struct window_write *write = *ring_slot(waiting, waiting->head);
	if (write->deadline_ms > now_ms)
		return NULL;
	raft_assert(write->copies == 0 && window->waiting_bytes >= write->size);
	waiting->head++;
	window->waiting_bytes -= write->size;
	return write;
}

struct window_write *window_expire(struct window *window, uint64_t now_ms, enum window_verdict *ret_verdict)
{
	struct window_write *write = first_unexpired(window);
	if (write != NULL && write->deadline_ms > now_ms)
		return NULL;
	if (write != NULL && write->copies == 0) {
		give_numbers_back(window);
		if (write->sequence != 0) {
			write->voided = true;
			window->next_expiry = write->sequence + 1;
			*ret_verdict = WINDOW_VOIDED;
			return write;
		}
		write = NULL;
	}
	if (write != NULL) {
		write->abandoned = true;
		window->next_expiry = write->sequence + 1;
		*ret_verdict = WINDOW_UNKNOWN;
		return write;
	}
	write = expire_waiting(window, now_ms);
	if (write != NULL)
		*ret_verdict = WINDOW_FAILED;
	return write;
}

uint64_t window_deadline_ms(struct window *window)
{
	const struct window_write *write = first_unexpired(window);
	if (write != NULL)
		return write->deadline_ms;
	if (ring_count(&window->waiting) > 0)
		return (*ring_slot(&window->waiting, window->waiting.head))->deadline_ms;
	return UINT64_MAX;
}

/* A new session ---------------------------------------------------------------------------------------- */

struct window_write *window_forget(struct window *window)
{
	struct window_ring *numbered = &window->numbered;
	while (numbered->tail > numbered->head) {
		struct window_write *write = *ring_slot(numbered, numbered->tail - 1);
		if (write == NULL) {
			numbered->tail--;
			continue;
		}
		(void)land(window, write, window->epoch);
		if (write->copies == 0 && !write->voided && !write->abandoned) {
			uint64_t tail = numbered->tail;
			give_numbers_back(window);
			if (numbered->tail < tail)
				continue;
			/* No memory to wait in: it is handed out too. */
		}
		numbered->tail--;
		window->numbered_bytes -= write->size;
		write->sequence = 0;
		return write;
	}
	numbered->head = numbered->tail = 1;
	window->next = window->next_expiry = 1;
	window->epoch++;
	raft_assert(window->n_in_flight == 0 && window->numbered_bytes == 0);
	return NULL;
}

/* Checks ----------------------------------------------------------------------------------------------- */

void window_check(const struct window *window)
{
	uint64_t in_flight = 0;
	size_t numbered_bytes = 0, waiting_bytes = 0;
	const struct window_ring *numbered = &window->numbered;
	raft_assert(window->next >= numbered->head && window->next <= numbered->tail);
	raft_assert(window->next_expiry >= numbered->head && window->next_expiry <= numbered->tail);
	raft_assert(ring_count(numbered) <= numbered->capacity && ring_count(numbered) <= WINDOW_NUMBERED_MAX);
	raft_assert(ring_count(numbered) == 0 || *ring_slot(numbered, numbered->head) != NULL);
	for (uint64_t sequence = numbered->head; sequence < numbered->tail; sequence++) {
		const struct window_write *write = *ring_slot(numbered, sequence);
		if (write == NULL)
			continue;
		raft_assert(write->sequence == sequence);
		raft_assert(!write->in_flight || (write->copies > 0 && sequence < window->next));
		raft_assert(sequence >= window->next_expiry || write->abandoned || write->voided);
		in_flight += write->in_flight ? 1 : 0;
		numbered_bytes += write->size;
	}
	for (uint64_t position = window->waiting.head; position < window->waiting.tail; position++) {
		const struct window_write *write = *ring_slot(&window->waiting, position);
		raft_assert(write->sequence == 0 && write->copies == 0 && !write->abandoned && !write->voided);
		waiting_bytes += write->size;
	}
	raft_assert(in_flight == window->n_in_flight);
	raft_assert(numbered_bytes == window->numbered_bytes && waiting_bytes == window->waiting_bytes);
}
