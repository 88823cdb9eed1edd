/* See session.h: what the members answer. README.md, "Writes", says why each answer is treated as it is. */
#include "bridge/session_internal.h"

#include "daemon/assert.h"
#include "daemon/service/service.h"

static const char refused_text[] = "the cluster refused the request as malformed; that is a mistake of this program, "
				   "please report it";

/* Writes ----------------------------------------------------------------------------------------------- */

static void finish_write(struct session *session, struct request *request, const struct kv_answer_body *answer,
			 uint64_t now_ms)
{
	window_done(&session->window, &request->write);
	session->write_progress_ms = now_ms;
	session->write_pace_ms = HOLD_MS_MIN;
	session->write_resend_ms = RESEND_MS_MIN;
	if (request->answer == ANSWER_NONE) {
		request->number = answer->number;
		request->answer = answer->status == KV_OK	   ? ANSWER_OK
				  : answer->status == KV_NOT_FOUND ? ANSWER_NOT_FOUND
								   : ANSWER_MISMATCH;
		bool taken = session_answer(session, request, NULL, 0);
		raft_assert(taken);
	}
	session_end(session, request);
}

/* The copy is in no log, or had no effect. Returns true if that is a cause to send again. */
static bool reject_write(struct session *session, struct request *request, uint64_t epoch, uint8_t cause)
{
	bool current = window_reject(&session->window, &request->write, epoch, cause);
	/* Its client was told that it may be applied; now it surely is not, and shall not be a surprise later. */
	if (request->write.abandoned && !request->write.voided && request->write.copies == 0)
		session_void(session, request);
	return current;
}

/* It will never be accepted: its place is filled with a command that does nothing. */
static void refuse_write(struct session *session, struct request *request, uint64_t epoch, uint64_t now_ms)
{
	bool current = reject_write(session, request, epoch, KV_ANSWER_BAD_REQUEST);
	session_answer_problem(session, request, LINE_E_INTERNAL, refused_text);
	if (request->write.copies == 0 && !request->write.voided)
		session_void(session, request);
	else if (request->write.copies > 0)
		request->write.abandoned = true;
	if (current)
		session_hold_writes(session, now_ms);
}

/* One before it was rejected, or did not reach the log: all are sent again. */
static void take_out_of_order(struct session *session, struct request *request, uint64_t epoch, uint64_t expected,
			      uint64_t now_ms)
{
	const struct window *window = &session->window;
	if (!reject_write(session, request, epoch, KV_ANSWER_BUSY))
		return;
	if (expected < window_acknowledged(window) || expected > request->write.sequence) {
		/* The members' idea of the session is not one that this process ever had. */
		service_log(3, "session-broken",
			    "session %llu expects write %llu, yet the first unanswered is %llu; "
			    "registering anew",
			    (unsigned long long)session->id, (unsigned long long)expected,
			    (unsigned long long)window_acknowledged(window));
		session->lost = true;
		return;
	}
	session_hold_writes(session, now_ms);
}

static void take_applied(struct session *session, struct request *request, uint64_t epoch,
			 const struct kv_answer_body *answer, uint64_t now_ms)
{
	switch ((enum kv_status)answer->status) {
	case KV_OK:
	case KV_NOT_FOUND:
	case KV_CAS_MISMATCH:
		finish_write(session, request, answer, now_ms);
		return;
	case KV_NO_SESSION:
		(void)reject_write(session, request, epoch, KV_ANSWER_OK); /* lost whatever the epoch */
		session->lost = true;
		return;
	case KV_OUT_OF_ORDER:
		take_out_of_order(session, request, epoch, answer->number, now_ms);
		return;
	case KV_WINDOW_FULL:
		if (reject_write(session, request, epoch, KV_ANSWER_BUSY))
			session_hold_writes(session, now_ms);
		return;
	case KV_ALREADY_ACKNOWLEDGED:
		break;
	case KV_BAD_COMMAND:
		refuse_write(session, request, epoch, now_ms);
		return;
	}
	/* It was acknowledged, yet is unanswered here: a broken member. Its fate cannot be found out any more. */
	service_log(3, "broken-answer", "a member says that write %llu was acknowledged (status %u)",
		    (unsigned long long)request->write.sequence, answer->status);
	session_answer_problem(session, request, LINE_E_UNKNOWN,
			       "a member lost track of the write; read the key before you "
			       "write it again");
	finish_write(session, request, answer, now_ms);
}

static void take_write(struct session *session, unsigned member, uint64_t id, const struct kv_answer_body *answer,
		       uint64_t now_ms)
{
	struct window *window = &session->window;
	struct window_write *write = window_find(window, id & ((UINT64_C(1) << 44) - 1));
	if (((id >> 56) & 31) != (session->incarnation & 31) || write == NULL)
		return; /* of an earlier session, or answered before */
	struct request *request = request_of_write(write);
	/* An older epoch is as good as any other older one. */
	uint64_t epoch = ((id >> 44) & 0xfff) == (window->epoch & 0xfff) ? window->epoch : window->epoch - 1;
	switch ((enum kv_answer)answer->answer) {
	case KV_ANSWER_OK:
		take_applied(session, request, epoch, answer, now_ms);
		break;
	case KV_ANSWER_NOT_LEADER:
		if (reject_write(session, request, epoch, KV_ANSWER_NOT_LEADER))
			members_deny(session->members, member, now_ms);
		break;
	case KV_ANSWER_UNKNOWN:
		if (window_doubt(window, write, epoch))
			members_deny(session->members, member, now_ms);
		break;
	case KV_ANSWER_BUSY:
	case KV_ANSWER_NOT_READY:
	case KV_ANSWER_DISK_FULL:
		if (reject_write(session, request, epoch, answer->answer))
			session_hold_writes(session, now_ms);
		break;
	case KV_ANSWER_BAD_REQUEST:
		refuse_write(session, request, epoch, now_ms);
		break;
	case KV_ANSWER_NOT_FOUND:
	case KV_ANSWER_LOST:
	case KV_ANSWER_REFUSED:
		break; /* not answers to a write */
	}
}

static void take_register(struct session *session, unsigned member, uint64_t id, const struct kv_answer_body *answer,
			  uint64_t now_ms)
{
	if ((id & ID_REST_MASK) != (session->incarnation & ID_REST_MASK) || session->id != 0)
		return;
	session->registered_ms = 0;
	if (answer->answer == KV_ANSWER_OK && answer->status == KV_OK && answer->number != 0) {
		session->id = answer->number;
		session->counters.sessions++;
		session->write_pace_ms = HOLD_MS_MIN;
		session->write_resend_ms = RESEND_MS_MIN;
		service_log(6, "session-registered", "registered session %llu", (unsigned long long)session->id);
		return;
	}
	if (answer->answer == KV_ANSWER_NOT_LEADER || answer->answer == KV_ANSWER_UNKNOWN)
		members_deny(session->members, member, now_ms);
	else
		session_hold_writes(session, now_ms);
}

/* Reads ------------------------------------------------------------------------------------------------ */

static void finish_read(struct session *session, struct read_queue *queue, struct request *request,
			const struct kv_answer_body *answer, uint64_t now_ms)
{
	session_begin_end_of_read(session, queue, request);
	queue->progress_ms = now_ms;
	queue->pace_ms = HOLD_MS_MIN;
	queue->resend_ms = RESEND_MS_MIN;
	request->number = answer->number;
	request->answer = answer->answer == KV_ANSWER_OK ? ANSWER_VALUE : ANSWER_NOT_FOUND;
	if (!session_answer(session, request, answer->data, answer->size))
		request->answer = ANSWER_NONE; /* its client reads slowly and will ask again */
	session_end(session, request);
}

static void hold_read(struct read_queue *queue, struct request *request, uint8_t cause, uint64_t now_ms)
{
	request->cause = cause;
	reads_again(queue, request);
	if (queue->hold_until_ms > now_ms)
		return; /* others of the same frame were rejected too */
	queue->hold_until_ms = now_ms + queue->pace_ms;
	queue->pace_ms = queue->pace_ms * 2 < HOLD_MS_MAX ? queue->pace_ms * 2 : HOLD_MS_MAX;
}

static void take_read(struct session *session, unsigned member, uint64_t id, const struct kv_answer_body *answer,
		      uint64_t now_ms)
{
	struct request *request = reads_find(&session->table, id);
	if (request == NULL || request->member != member)
		return; /* sent again since, or its client is gone */
	struct read_queue *queue = request->kind == REQUEST_READ ? &session->reads : &session->stale;
	switch ((enum kv_answer)answer->answer) {
	case KV_ANSWER_OK:
	case KV_ANSWER_NOT_FOUND:
		finish_read(session, queue, request, answer, now_ms);
		break;
	case KV_ANSWER_NOT_LEADER:
	case KV_ANSWER_LOST:
	case KV_ANSWER_UNKNOWN:
		if (request->kind == REQUEST_STALE) {
			hold_read(queue, request, answer->answer, now_ms);
			break;
		}
		request->cause = answer->answer;
		reads_again(queue, request);
		members_deny(session->members, member, now_ms);
		break;
	case KV_ANSWER_BUSY:
	case KV_ANSWER_NOT_READY:
	case KV_ANSWER_DISK_FULL:
		hold_read(queue, request, answer->answer, now_ms);
		break;
	case KV_ANSWER_BAD_REQUEST:
	case KV_ANSWER_REFUSED:
		session_begin_end_of_read(session, queue, request);
		session_answer_problem(session, request, LINE_E_INTERNAL, refused_text);
		session_end(session, request);
		break;
	}
}

void session_reply(struct session *session, unsigned member, const struct kv_frame_item *item, uint64_t now_ms)
{
	struct kv_answer_body answer;
	if (!kv_reply_decode(item->body, item->size, &answer))
		return; /* as if lost: sent again in time */
	if (answer.size > KV_VALUE_SIZE_MAX && request_id_type(item->id) == ID_READ)
		return;
	switch (request_id_type(item->id)) {
	case ID_REGISTER:
		take_register(session, member, item->id, &answer, now_ms);
		break;
	case ID_WRITE:
		take_write(session, member, item->id, &answer, now_ms);
		break;
	case ID_READ:
		take_read(session, member, item->id, &answer, now_ms);
		break;
	case ID_STATUS:
		status_take(&session->status, member, item->id & ID_REST_MASK, &answer);
		break;
	default:
		break; /* an id that was never given out */
	}
}
