/* See client.h: bytes to lines, lines to requests, and when a connection must wait. */
#include "bridge/client_internal.h"

#include "bridge/clock.h"
#include "daemon/assert.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const char line_too_big_text[] = "the line is longer than 4198464 bytes and was skipped; a key has at most 1024 "
					"bytes, a value 1048576";
_Static_assert(LINE_SIZE_MAX == 4198464, "the text above names the limit");
static const char no_memory_text[] = "the bridge is short of memory; the request was not executed, try again";
static const char no_newline_text[] = "the last line has no newline and was not executed";

/* Waiting ---------------------------------------------------------------------------------------------- */

static bool is_full(const struct client *client)
{
	if (client->n_requests >= CLIENT_REQUESTS_MAX)
		return true;
	if (client->out.len + client->stash_bytes >= client_output_max(client))
		return true;
	return client->n_requests >= CLIENT_REQUESTS_MIN &&
	       (uint64_t)client->n_requests * client->estimate >= CLIENT_ANSWERS_EXPECTED;
}

bool client_is_blocked(const struct client *client)
{
	return client->dead || client->quitting || client->held != NULL || is_full(client) ||
	       !session_has_room(client->clients->options.session);
}

/* If it waits for what all share, it is woken when there is some. Otherwise one of its own answers wakes it. */
static void wait_for_room(struct client *client)
{
	struct clients *clients = client->clients;
	if (client->dead || client->list != LIST_NONE || session_has_room(clients->options.session))
		return;
	client->list = LIST_STARVED;
	TAILQ_INSERT_TAIL(&clients->starved, client, waiting);
}

/* A read sees the writes before it on its connection and none after it: so the two kinds never mix in flight. */
static bool must_be_held(const struct client *client, const struct request *request)
{
	switch (request_group(request)) {
	case GROUP_WRITES:
		return client->unanswered[GROUP_READS] > 0;
	case GROUP_READS:
		return client->unanswered[GROUP_WRITES] > 0;
	case GROUP_STATUS:
		return client->unanswered[GROUP_STATUS] > 0;
	case GROUP_LOCAL:
	case N_GROUPS:
		break;
	}
	return false;
}

/* Requests --------------------------------------------------------------------------------------------- */

static void submit(struct client *client, struct request *request, uint64_t now_ms)
{
	struct clients *clients = client->clients;
	if (request->client == NULL)
		client_append(client, request);
	if (session_submit(clients->options.session, request, now_ms) == 0)
		return;
	request->answer = ANSWER_PROBLEM;
	request->problem = (struct line_problem){LINE_E_BUSY, no_memory_text};
	(void)clients_answered(&clients, request, NULL, 0); /* a problem always fits */
}

static void take_request(struct client *client, const struct line_request *line, uint64_t now_ms)
{
	struct request *request = request_new(client->clients->options.pool, line);
	if (request == NULL) {
		client_answer_problem(client, LINE_E_BUSY, no_memory_text);
		return;
	}
	if (must_be_held(client, request))
		client->held = request;
	else
		submit(client, request, now_ms);
}

static void take_line(struct client *client, uint8_t *text, size_t len, uint64_t now_ms)
{
	struct line_request line;
	struct line_problem problem;
	int r = line_parse(text, len, &line, &problem);
	if (r == LINE_REQUEST_EMPTY)
		return;
	if (r == LINE_REQUEST_BAD) {
		client_answer_problem(client, problem.error, problem.text);
		return;
	}
	switch (line.command) {
	case LINE_PUT:
	case LINE_GET:
	case LINE_DELETE:
	case LINE_CAS:
	case LINE_STATUS:
		take_request(client, &line, now_ms);
		break;
	case LINE_HELP:
		client_answer_text(client, line_help());
		break;
	case LINE_PING:
		client_answer_text(client, "PONG\n");
		break;
	case LINE_QUIT:
		client_answer_text(client, "BYE\n");
		client->quitting = true;
		client_mark_dirty(client);
		break;
	}
}

/* Takes complete lines off the front as long as the client may go on, and returns how many bytes that were. */
static size_t consume(struct client *client, uint8_t *bytes, size_t len, uint64_t now_ms)
{
	size_t at = 0;
	while (at < len && !client_is_blocked(client)) {
		raft_assert(client->in_scanned <= len - at);
		uint8_t *from = bytes + at + client->in_scanned;
		uint8_t *newline = memchr(from, '\n', len - at - client->in_scanned);
		size_t size = newline == NULL ? len - at : (size_t)(newline - (bytes + at));
		if (size > LINE_SIZE_MAX && !client->skipping) {
			client_answer_problem(client, LINE_E_TOO_BIG, line_too_big_text);
			client->skipping = true;
		}
		if (newline == NULL) {
			client->in_scanned = client->skipping ? 0 : size;
			return client->skipping ? len : at;
		}
		if (!client->skipping)
			take_line(client, bytes + at, size, now_ms);
		client->skipping = false;
		client->in_scanned = 0;
		at += size + 1;
	}
	return at;
}

/* Input ------------------------------------------------------------------------------------------------ */

static void release_input(struct client *client)
{
	if (client->in.capacity > SHARED_REST_MAX)
		client->clients->input_bytes -= client->in.capacity;
	buffer_release(client->clients->options.pool, &client->in);
}

/* Room for size more bytes in the client's own buffer. False: no memory, or all connections together have too much. */
static bool reserve_input(struct client *client, size_t size)
{
	struct clients *clients = client->clients;
	size_t before = client->in.capacity > SHARED_REST_MAX ? client->in.capacity : 0;
	bool grows = client->in.capacity - client->in.at - client->in.len < size;
	/* What one turn's reading leaves is always kept: it is not more than SHARED_SIZE. */
	if (grows && client->in.len > 0 && clients->input_bytes >= INPUT_BYTES_MAX)
		return false;
	if (!buffer_reserve(clients->options.pool, &client->in, size))
		return false;
	clients->input_bytes -= before;
	clients->input_bytes += client->in.capacity > SHARED_REST_MAX ? client->in.capacity : 0;
	return true;
}

/* Keeps what consume left in the shared buffer. */
static void keep_rest(struct client *client, const uint8_t *bytes, size_t len)
{
	raft_assert(client->in.bytes == NULL && len <= SHARED_SIZE);
	if (len == 0)
		return;
	if (!reserve_input(client, len)) {
		client_kill(client); /* complete lines may be in it: they cannot be dropped in silence */
		return;
	}
	memcpy(client->in.bytes, bytes, len);
	client->in.len = len;
}

static void consume_own(struct client *client, uint64_t now_ms)
{
	size_t n = consume(client, client->in.bytes + client->in.at, client->in.len, now_ms);
	raft_assert(n <= client->in.len);
	client->in.at += n;
	client->in.len -= n;
	if (client->in.len == 0)
		release_input(client);
}

/* Where to read to, behind the rest that is not consumed; a small rest moves to the shared buffer. */
static uint8_t *choose_buffer(struct client *client, size_t *ret_room)
{
	struct clients *clients = client->clients;
	size_t rest = client->in.len;
	if (rest <= SHARED_REST_MAX) {
		if (rest > 0)
			memcpy(clients->shared, client->in.bytes + client->in.at, rest);
		release_input(client);
		*ret_room = SHARED_SIZE - rest;
		return clients->shared;
	}
	if (!reserve_input(client, SHARED_SIZE))
		return NULL;
	*ret_room = client->in.capacity - client->in.at - rest;
	return client->in.bytes + client->in.at;
}

/* The line that is being read cannot be kept: it is answered now and skipped up to its end. */
static void give_line_up(struct client *client)
{
	raft_assert(client->in_scanned == client->in.len);
	client_answer_problem(client, LINE_E_BUSY, no_memory_text);
	client->skipping = true;
	client->in_scanned = 0;
	release_input(client);
}

static void take_end(struct client *client, ssize_t n)
{
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	if (n < 0) {
		client_kill(client);
		return;
	}
	client->eof = true;
	client_watch(client, client->watched & EV_WRITE);
	client_mark_ready(client);
}

void client_readable(struct client *client)
{
	struct clients *clients = client->clients;
	if (client->dead || client->eof)
		return;
	if (client_is_blocked(client)) {
		/* Only now, not when it began: most waits are over before there is more input. */
		client_watch(client, client->watched & EV_WRITE);
		wait_for_room(client);
		return;
	}
	if (client->in.len > client->in_scanned) {
		client_mark_ready(client); /* it may go on, with what it has */
		return;
	}
	size_t room, rest = client->in.len;
	uint8_t *bytes = choose_buffer(client, &room);
	if (bytes == NULL) {
		give_line_up(client);
		return;
	}
	ssize_t n = read(client->fd, bytes + rest, room);
	size_t len = rest + (n > 0 ? (size_t)n : 0);
	uint64_t now_ms = clock_now_ms();
	if (bytes == clients->shared) {
		size_t consumed = consume(client, bytes, len, now_ms);
		keep_rest(client, bytes + consumed, len - consumed);
	} else {
		client->in.len = len;
		consume_own(client, now_ms);
	}
	if (n <= 0)
		take_end(client, n);
	if (client->in.len > 0 && client_is_blocked(client))
		wait_for_room(client);
}

/* Going on --------------------------------------------------------------------------------------------- */

/* Asks again for values that there was no room for, first come first; as many as will fit by what answers were like. */
static void unpark(struct client *client, uint64_t now_ms)
{
	struct session *session = client->clients->options.session;
	size_t max = client_output_max(client);
	size_t used = client->out.len + client->stash_bytes;
	struct request *request = client->head;
	size_t n = used < max / 2 ? (max - used) / (client->estimate + 1) : 0;
	if (n == 0 && client->out.len < max / 2 && request != NULL && request->parked)
		n = 1; /* the next one in turn is always let through */
	for (; request != NULL && n > 0; request = request->next) {
		if (request->answer != ANSWER_NONE || request_group(request) != GROUP_READS)
			continue;
		n--; /* those on their way need their room too */
		if (!request->parked)
			continue;
		if (!session_has_room(session) || session_submit(session, request, now_ms) < 0)
			return; /* later, with the next answer or when there is room */
		request->parked = false;
		raft_assert(client->n_parked > 0);
		client->n_parked--;
	}
}

static void finish_input(struct client *client)
{
	if (client->in.len == 0 || client_is_blocked(client))
		return;
	/* What is left has no newline. When the bridge stops, the client may just not have come to it yet. */
	if (!client->clients->stopping && !client->skipping)
		client_answer_problem(client, LINE_E_BAD_REQUEST, no_newline_text);
	client->in_scanned = 0;
	release_input(client);
}

void client_continue(struct client *client, uint64_t now_ms)
{
	if (client->dead)
		return;
	if (client->n_parked > 0)
		unpark(client, now_ms);
	if (client->held != NULL && !must_be_held(client, client->held) &&
	    session_has_room(client->clients->options.session)) {
		struct request *request = client->held;
		client->held = NULL;
		submit(client, request, now_ms);
	}
	if (client->in.len > 0)
		consume_own(client, now_ms);
	if (client->eof)
		finish_input(client);
	if (client_is_blocked(client) || (client->n_parked > 0 && !session_has_room(client->clients->options.session)))
		wait_for_room(client);
	else if (!client->eof)
		client_watch(client, (short)(client->watched | EV_READ));
	if (client_is_finished(client))
		client_mark_dirty(client);
}
