/* See session.h: requests in, deadlines, and what happens at the end of a loop turn. */
#include "bridge/session_internal.h"

#include "daemon/assert.h"
#include "daemon/service/service.h"

#include <errno.h>
#include <stdlib.h>

/* Life ------------------------------------------------------------------------------------------------- */

int session_new(const struct session_options *options, struct session **ret_session)
{
	struct session *session = calloc(1, sizeof *session);
	if (session == NULL)
		return -ENOMEM;
	raft_assert(options->pool != NULL && options->timeout_ms > 0);
	session->options = *options;
	session->nonce = options->nonce;
	session->write_pace_ms = session->reads.pace_ms = session->stale.pace_ms = HOLD_MS_MIN;
	session->write_resend_ms = session->reads.resend_ms = session->stale.resend_ms = RESEND_MS_MIN;
	window_init(&session->window);
	*ret_session = session;
	return 0;
}

void session_set_members(struct session *session, struct members *members)
{
	raft_assert(session->members == NULL);
	session->members = members;
	session->generation_seen = members_generation(members);
}

static void drop(struct session *session, struct request *request)
{
	request->in_session = false;
	request->client = NULL; /* connections go before the session */
	request_release(session->options.pool, request);
}

static void drop_reads(struct session *session, struct read_queue *queue)
{
	while (queue->oldest != NULL) {
		struct request *request = queue->oldest;
		reads_remove(&session->table, queue, request);
		drop(session, request);
	}
}

struct session *session_free(struct session *session)
{
	if (session == NULL)
		return NULL;
	enum window_verdict verdict;
	struct window_write *write;
	struct request *request;
	while ((write = window_forget(&session->window)) != NULL)
		drop(session, request_of_write(write));
	while ((write = window_expire(&session->window, UINT64_MAX, &verdict)) != NULL)
		drop(session, request_of_write(write));
	drop_reads(session, &session->reads);
	drop_reads(session, &session->stale);
	while ((request = status_next(&session->status)) != NULL)
		drop(session, request);
	window_fini(&session->window);
	reads_fini(&session->table);
	free(session);
	return NULL;
}

/* Requests --------------------------------------------------------------------------------------------- */

bool session_has_room(const struct session *session)
{
	return window_has_room(&session->window) && reads_count(&session->table) < READS_MAX;
}

static int submit_write(struct session *session, struct request *request, uint64_t now_ms)
{
	request->write.size = KV_COMMAND_HEADER_SIZE + request->key_size + request->value_size;
	request->write.deadline_ms = now_ms + session->options.timeout_ms;
	int r = window_push(&session->window, &request->write);
	if (r == 0) {
		request->in_session = true;
		session->counters.writes++;
	}
	return r;
}

int session_submit(struct session *session, struct request *request, uint64_t now_ms)
{
	raft_assert(!request->in_session && request->answer == ANSWER_NONE);
	request->deadline_ms = now_ms + session->options.timeout_ms;
	switch ((enum request_kind)request->kind) {
	case REQUEST_WRITE:
		return submit_write(session, request, now_ms);
	case REQUEST_READ:
		session->counters.reads++;
		return reads_push(&session->table, &session->reads, request);
	case REQUEST_STALE:
		session->counters.stale_reads++;
		return reads_push(&session->table, &session->stale, request);
	case REQUEST_STATUS:
		request->in_session = true;
		status_add(&session->status, session->members, request, now_ms);
		return 0;
	case REQUEST_LOCAL:
		break;
	}
	raft_assert(request->kind != REQUEST_LOCAL);
	return -EINVAL;
}

void session_leave(struct session *session, struct request *request)
{
	raft_assert(request->client == NULL);
	if (!request->in_session)
		return request_release(session->options.pool, request);
	if (request->kind == REQUEST_READ || request->kind == REQUEST_STALE) {
		reads_remove(&session->table, request->kind == REQUEST_READ ? &session->reads : &session->stale,
			     request);
		request_release(session->options.pool, request);
	}
}

void session_end(struct session *session, struct request *request)
{
	raft_assert(request->in_session);
	request->in_session = false;
	request_release(session->options.pool, request);
}

void session_begin_end_of_read(struct session *session, struct read_queue *queue, struct request *request)
{
	reads_remove(&session->table, queue, request);
	request->in_session = true;
}

/* Answers ---------------------------------------------------------------------------------------------- */

bool session_answer(struct session *session, struct request *request, const uint8_t *data, uint32_t size)
{
	raft_assert(request->answer != ANSWER_NONE);
	if (request->client == NULL)
		return true;
	return session->options.answered(session->options.arg, request, data, size);
}

void session_answer_problem(struct session *session, struct request *request, enum line_error error, const char *text)
{
	if (request->answer != ANSWER_NONE)
		return; /* it was answered at its deadline */
	request->answer = ANSWER_PROBLEM;
	request->problem = (struct line_problem){error, text};
	if (error == LINE_E_UNKNOWN)
		session->counters.unknown++;
	else
		session->counters.failed++;
	bool taken = session_answer(session, request, NULL, 0);
	raft_assert(taken);
}

void session_answer_failure(struct session *session, struct request *request, uint8_t cause)
{
	bool writes = request->kind == REQUEST_WRITE;
	switch (cause) {
	case KV_ANSWER_BUSY:
		session_answer_problem(session, request, LINE_E_BUSY,
				       writes ? "the leader had no room until request_timeout_ms; nothing was "
						"written, try again later"
					      : "the leader had no room until request_timeout_ms; try again later");
		return;
	case KV_ANSWER_DISK_FULL:
		session_answer_problem(
			session, request, LINE_E_DISK_FULL,
			"the leader's disk is full; nothing was written, free space there and try again");
		return;
	default:
		session_answer_problem(session, request, LINE_E_NO_QUORUM,
				       writes ? "no leader with a majority within request_timeout_ms; nothing was "
						"written, see 'status' and try again"
					      : "no leader with a majority within request_timeout_ms; try again, or "
						"'get -s KEY' for a read that may be stale");
	}
}

void session_void(struct session *session, struct request *request)
{
	raft_assert(request->kind == REQUEST_WRITE && request->write.copies == 0);
	request->operation = KV_NOTHING;
	request->expected = 0;
	request->key_size = 0;
	request->value_size = 0;
	window_void(&session->window, &request->write, KV_COMMAND_HEADER_SIZE);
}

static const char unknown_text[] = "no answer in time; the write may be applied, now or later: read the key before "
				   "you write it again";

/* Deadlines -------------------------------------------------------------------------------------------- */

static void expire_writes(struct session *session, uint64_t now_ms)
{
	struct window_write *write;
	enum window_verdict verdict;
	while ((write = window_expire(&session->window, now_ms, &verdict)) != NULL) {
		struct request *request = request_of_write(write);
		switch (verdict) {
		case WINDOW_FAILED:
			session_answer_failure(session, request, write->cause);
			session_end(session, request);
			break;
		case WINDOW_VOIDED:
			session_answer_failure(session, request, write->cause);
			session_void(session, request);
			break;
		case WINDOW_UNKNOWN:
			session_answer_problem(session, request, LINE_E_UNKNOWN, unknown_text);
			break;
		}
	}
}

static void expire_reads(struct session *session, struct read_queue *queue, uint64_t now_ms)
{
	while (queue->oldest != NULL && queue->oldest->deadline_ms <= now_ms) {
		struct request *request = queue->oldest;
		uint8_t cause = request->cause;
		session_begin_end_of_read(session, queue, request);
		session_answer_failure(session, request, cause);
		session_end(session, request);
	}
}

static void finish_status(struct session *session, uint64_t now_ms)
{
	char text[STATUS_TEXT_MAX];
	struct request *request;
	if (!status_is_complete(&session->status, session->members, now_ms))
		return;
	size_t size = status_write(&session->status, session->members, text);
	while ((request = status_next(&session->status)) != NULL) {
		request->answer = ANSWER_TEXT;
		(void)session_answer(session, request, (const uint8_t *)text, (uint32_t)size); /* texts always fit */
		session_end(session, request);
	}
}

/* Sending again ---------------------------------------------------------------------------------------- */

void session_restart_writes(struct session *session, uint64_t now_ms)
{
	window_restart(&session->window);
	session->write_progress_ms = now_ms;
	session->counters.restarts++;
}

void session_hold_writes(struct session *session, uint64_t now_ms)
{
	session_restart_writes(session, now_ms);
	session->write_hold_until_ms = now_ms + session->write_pace_ms;
	session->write_pace_ms *= 2;
	if (session->write_pace_ms > HOLD_MS_MAX)
		session->write_pace_ms = HOLD_MS_MAX;
}

/* The store has forgotten the session (too many others were used since). Once nothing of it is in flight, the writes
 * move to a new one, but for those that may have been applied under the old. */
static void leave_session(struct session *session, uint64_t now_ms)
{
	struct window_write *write;
	raft_assert(session->lost);
	while ((write = window_forget(&session->window)) != NULL) {
		struct request *request = request_of_write(write);
		session_answer_problem(session, request, LINE_E_UNKNOWN, unknown_text);
		session_end(session, request);
	}
	service_log(5, "session-expired", "session %llu is not known to the members any more; registering anew",
		    (unsigned long long)session->id);
	session->lost = false;
	session->id = 0;
	session->incarnation++;
	session->nonce += UINT64_C(0x9e3779b97f4a7c15);
	session->registered_ms = 0;
	session->write_progress_ms = now_ms;
}

static void restart_reads(struct read_queue *queue, uint64_t now_ms)
{
	reads_restart(queue);
	queue->progress_ms = now_ms;
	queue->hold_until_ms = 0;
}

static void follow_leader(struct session *session, uint64_t now_ms)
{
	if (session->generation_seen == members_generation(session->members))
		return;
	session->generation_seen = members_generation(session->members);
	session->registered_ms = 0;
	session->write_hold_until_ms = 0;
	session_restart_writes(session, now_ms);
	restart_reads(&session->reads, now_ms);
	if (session->lost)
		leave_session(session, now_ms);
}

static void double_up(uint64_t *resend_ms)
{
	*resend_ms = *resend_ms * 2 < RESEND_MS_MAX ? *resend_ms * 2 : RESEND_MS_MAX;
}

/* Nothing has moved for a while although something is in flight: ask for a sign of life, and after long, send again: a
 * member may drop answers when its queues are full. */
static void check_progress(struct session *session, uint64_t now_ms)
{
	uint64_t poke_ms = members_silence_ms(session->members) / 2;
	int leader = members_leader(session->members, now_ms);
	bool writes = session->window.n_in_flight > 0 || session->registered_ms != 0;
	bool reads = session->reads.n_in_flight > 0;
	if (leader == MEMBERS_NONE)
		return;
	if ((writes && now_ms >= session->write_progress_ms + poke_ms) ||
	    (reads && now_ms >= session->reads.progress_ms + poke_ms))
		members_poke(session->members, (unsigned)leader, now_ms);
	if (writes && now_ms >= session->write_progress_ms + session->write_resend_ms) {
		double_up(&session->write_resend_ms);
		session->registered_ms = 0;
		session_restart_writes(session, now_ms);
	}
	if (reads && now_ms >= session->reads.progress_ms + session->reads.resend_ms) {
		double_up(&session->reads.resend_ms);
		restart_reads(&session->reads, now_ms);
	}
}

static void check_stale_progress(struct session *session, uint64_t now_ms)
{
	struct read_queue *queue = &session->stale;
	uint64_t silence_ms = members_silence_ms(session->members);
	if (queue->n_in_flight == 0 || now_ms < queue->progress_ms + silence_ms / 2)
		return;
	for (struct request *request = queue->oldest; request != NULL; request = request->newer) {
		if (!request->in_flight)
			continue;
		if (members_is_silent(session->members, request->member, now_ms)) {
			reads_restart_member(queue, request->member);
			break;
		}
		members_poke(session->members, request->member, now_ms);
		break;
	}
	if (now_ms >= queue->progress_ms + queue->resend_ms)
		restart_reads(queue, now_ms);
}

void session_member_lost(struct session *session, unsigned member)
{
	reads_restart_member(&session->stale, member);
}

/* Turns ------------------------------------------------------------------------------------------------ */

static bool wants_leader(const struct session *session)
{
	return !window_is_empty(&session->window) || session->reads.oldest != NULL;
}

void session_turn(struct session *session, uint64_t now_ms)
{
	expire_writes(session, now_ms);
	expire_reads(session, &session->reads, now_ms);
	expire_reads(session, &session->stale, now_ms);
	finish_status(session, now_ms);
	follow_leader(session, now_ms);
	check_progress(session, now_ms);
	check_stale_progress(session, now_ms);
	if (session->lost && (session->window.n_in_flight == 0 || now_ms >= session->write_progress_ms + RESEND_MS_MIN))
		leave_session(session, now_ms);
	session_send(session, now_ms);
	members_tick(session->members, now_ms, wants_leader(session));
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t queue_due_ms(const struct read_queue *queue, uint64_t poke_ms, uint64_t now_ms)
{
	uint64_t due = UINT64_MAX;
	if (queue->oldest != NULL)
		due = queue->oldest->deadline_ms;
	if (queue->n_in_flight > 0)
		due = earlier(due,
			      queue->progress_ms + poke_ms > now_ms ? queue->progress_ms + poke_ms : now_ms + poke_ms);
	if (queue->cursor != NULL && queue->hold_until_ms > now_ms)
		due = earlier(due, queue->hold_until_ms);
	return due;
}

uint64_t session_due_ms(struct session *session, uint64_t now_ms)
{
	uint64_t poke_ms = members_silence_ms(session->members) / 2 + 1;
	uint64_t due = members_due_ms(session->members, now_ms, wants_leader(session));
	due = earlier(due, window_deadline_ms(&session->window));
	due = earlier(due, queue_due_ms(&session->reads, poke_ms, now_ms));
	due = earlier(due, queue_due_ms(&session->stale, poke_ms, now_ms));
	due = earlier(due, status_due_ms(&session->status));
	if (session->window.n_in_flight > 0 || session->registered_ms != 0) {
		uint64_t progress = session->write_progress_ms + poke_ms;
		due = earlier(due, progress > now_ms ? progress : now_ms + poke_ms);
	}
	if (session->write_hold_until_ms > now_ms)
		due = earlier(due, session->write_hold_until_ms);
	if (session->send_again_ms != 0)
		due = earlier(due, session->send_again_ms);
	return due;
}

bool session_is_idle(const struct session *session)
{
	return window_is_empty(&session->window) && reads_count(&session->table) == 0;
}

const struct session_counters *session_get_counters(const struct session *session)
{
	return &session->counters;
}

struct session_queues session_get_queues(const struct session *session)
{
	const struct window *window = &session->window;
	return (struct session_queues){
		.writes_waiting = window->waiting.tail - window->waiting.head,
		.writes_waiting_max = WINDOW_WAITING_MAX,
		.writes_sent = window->numbered.tail - window->numbered.head,
		.writes_sent_max = WINDOW_NUMBERED_MAX,
		.reads = reads_count(&session->table),
		.reads_max = READS_MAX,
		.waiting_bytes = window->waiting_bytes,
		.waiting_bytes_max = WINDOW_WAITING_BYTES_MAX,
		.sent_bytes = window->numbered_bytes,
		.sent_bytes_max = WINDOW_NUMBERED_BYTES_MAX,
	};
}
