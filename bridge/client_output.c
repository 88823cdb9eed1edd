/* See client.h: answers in the order of their requests, written once a turn. */
#include "bridge/client_internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define BUFFER_SIZE_MIN 2048u

/* Buffers ---------------------------------------------------------------------------------------------- */

void buffer_release(struct pool *pool, struct buffer *buffer)
{
	pool_put(pool, buffer->bytes, buffer->capacity);
	*buffer = (struct buffer){0};
}

bool buffer_reserve(struct pool *pool, struct buffer *buffer, size_t size)
{
	raft_assert(buffer->at + buffer->len <= buffer->capacity && size < SIZE_MAX / 4);
	if (buffer->capacity - buffer->at - buffer->len >= size)
		return true;
	if (buffer->at >= buffer->len && buffer->capacity - buffer->len >= size) {
		memcpy(buffer->bytes, buffer->bytes + buffer->at, buffer->len);
		buffer->at = 0;
		return true;
	}
	size_t wanted = buffer->len + size;
	if (wanted < 2 * buffer->len)
		wanted = 2 * buffer->len;
	size_t capacity;
	uint8_t *bytes = pool_get(pool, wanted > BUFFER_SIZE_MIN ? wanted : BUFFER_SIZE_MIN, &capacity);
	if (bytes == NULL)
		return false;
	if (buffer->len > 0)
		memcpy(bytes, buffer->bytes + buffer->at, buffer->len);
	pool_put(pool, buffer->bytes, buffer->capacity);
	*buffer = (struct buffer){.bytes = bytes, .len = buffer->len, .capacity = capacity};
	return true;
}

/* Room for size bytes of output; NULL: no memory, and the client is dead. */
static uint8_t *reserve_output(struct client *client, size_t size)
{
	struct clients *clients = client->clients;
	struct buffer *out = &client->out;
	size_t before = out->capacity;
	if (client->dead || !buffer_reserve(clients->options.pool, out, size)) {
		client_kill(client);
		return NULL;
	}
	clients->output_bytes += out->capacity - before;
	return out->bytes + out->at + out->len;
}

size_t client_output_max(const struct client *client)
{
	return client->clients->output_bytes < OUTPUT_BYTES_MAX ? CLIENT_OUTPUT_MAX : CLIENT_OUTPUT_MIN;
}

/* Answers ---------------------------------------------------------------------------------------------- */

static void emit_text(struct client *client, const char *text, size_t size)
{
	uint8_t *buf = reserve_output(client, size);
	if (buf == NULL)
		return;
	memcpy(buf, text, size);
	client->out.len += size;
}

/* A word, a number and a newline: "OK 17". */
static void emit_number(struct client *client, const char *word, size_t word_size, uint64_t number)
{
	uint8_t *buf = reserve_output(client, word_size + LINE_U64_SIZE_MAX + 2);
	if (buf == NULL)
		return;
	memcpy(buf, word, word_size);
	size_t size = word_size;
	buf[size++] = ' ';
	size += line_write_u64(buf + size, number);
	buf[size++] = '\n';
	client->out.len += size;
}

static void emit_value(struct client *client, uint64_t revision, const uint8_t *data, uint32_t data_size)
{
	bool plain = line_is_plain(data, data_size);
	size_t written = plain ? data_size : line_written_size(data, data_size);
	uint8_t *buf = reserve_output(client, sizeof "VALUE " + LINE_U64_SIZE_MAX + 1 + written + 1);
	if (buf == NULL)
		return;
	memcpy(buf, "VALUE ", 6);
	size_t size = 6 + line_write_u64(buf + 6, revision);
	buf[size++] = ' ';
	size_t value_at = size;
	if (plain) {
		memcpy(buf + size, data, data_size);
		size += data_size;
	} else {
		size += line_write_word(buf + size, data, data_size);
	}
	raft_assert(size == value_at + written);
	buf[size++] = '\n';
	client->out.len += size;
}

static void emit_problem(struct client *client, const struct line_problem *problem)
{
	emit_text(client, "ERR ", 4);
	emit_text(client, line_error_name(problem->error), strlen(line_error_name(problem->error)));
	emit_text(client, " ", 1);
	emit_text(client, problem->text, strlen(problem->text));
	emit_text(client, "\n", 1);
}

static void emit(struct client *client, const struct request *request, const uint8_t *data, uint32_t size)
{
	size_t before = client->out.len;
	switch ((enum answer_kind)request->answer) {
	case ANSWER_OK:
		emit_number(client, "OK", 2, request->number);
		break;
	case ANSWER_MISMATCH:
		emit_number(client, "MISMATCH", 8, request->number);
		break;
	case ANSWER_NOT_FOUND:
		emit_text(client, "NOT_FOUND\n", 10);
		break;
	case ANSWER_VALUE:
		emit_value(client, request->number, data, size);
		break;
	case ANSWER_PROBLEM:
		emit_problem(client, &request->problem);
		break;
	case ANSWER_TEXT:
		if (request->kind == REQUEST_LOCAL)
			emit_text(client, request->problem.text, strlen(request->problem.text));
		else
			emit_text(client, (const char *)data, size);
		break;
	case ANSWER_NONE:
		raft_assert(request->answer != ANSWER_NONE);
	}
	size_t written = client->out.len - before;
	uint32_t fading = client->estimate - client->estimate / 8;
	client->estimate = written > fading ? (uint32_t)written : fading;
	client_mark_dirty(client);
}

/* The queue -------------------------------------------------------------------------------------------- */

void client_append(struct client *client, struct request *request)
{
	raft_assert(request->client == NULL && request->next == NULL);
	request->client = client;
	if (client->tail != NULL)
		client->tail->next = request;
	else
		client->head = request;
	client->tail = request;
	client->n_requests++;
	if (request->answer == ANSWER_NONE)
		client->unanswered[request_group(request)]++;
}

static void pop(struct client *client)
{
	struct request *request = client->head;
	client->head = request->next;
	if (client->head == NULL)
		client->tail = NULL;
	raft_assert(client->n_requests > 0 && request->client == client);
	client->n_requests--;
	request->next = NULL;
	request->client = NULL;
	if (request->value != NULL)
		client->stash_bytes -= request->value_size;
	request_release(client->clients->options.pool, request);
}

static void emit_answered(struct client *client)
{
	while (client->head != NULL && client->head->answer != ANSWER_NONE) {
		emit(client, client->head, client->head->value, client->head->value_size);
		pop(client);
	}
}

static bool has_room_for(const struct client *client, const struct request *request, uint32_t size)
{
	/* The next one in turn is taken whatever its size, so that a connection always gets on. */
	if (request == client->head)
		return client->out.len < client_output_max(client);
	return client->out.len + client->stash_bytes + size < client_output_max(client);
}

/* Keeps an answer until its turn. False: no memory. */
static bool stash(struct client *client, struct request *request, const uint8_t *data, uint32_t size)
{
	raft_assert(request->value == NULL);
	request->value_size = 0;
	if (size == 0)
		return true;
	request->value = pool_get(client->clients->options.pool, size, &request->value_capacity);
	if (request->value == NULL)
		return false;
	memcpy(request->value, data, size);
	request->value_size = size;
	client->stash_bytes += size;
	return true;
}

static bool park(struct client *client, struct request *request)
{
	raft_assert(request->answer == ANSWER_VALUE && !request->parked);
	request->parked = true;
	client->n_parked++;
	if (request == client->head)
		client_mark_ready(client);
	return false;
}

bool clients_answered(void *arg, struct request *request, const uint8_t *data, uint32_t size)
{
	struct client *client = request->client;
	raft_assert(*(struct clients **)arg == client->clients && request->answer != ANSWER_NONE);
	if (client->dead)
		return true;
	if (request->answer == ANSWER_VALUE && !has_room_for(client, request, size))
		return park(client, request);
	if (request == client->head) {
		emit(client, request, data, size);
		client->unanswered[request_group(request)]--;
		pop(client);
		emit_answered(client);
	} else {
		bool kept = request->kind == REQUEST_LOCAL || stash(client, request, data, size);
		if (!kept && request->answer == ANSWER_VALUE)
			return park(client, request);
		if (!kept)
			client_kill(client);
		client->unanswered[request_group(request)]--;
	}
	if (client->in.len > 0 || client->held != NULL || client->n_parked > 0 || (client->watched & EV_READ) == 0)
		client_mark_ready(client);
	return true;
}

static void answer_local(struct client *client, const struct request *answer)
{
	if (client->head == NULL) {
		emit(client, answer, NULL, 0);
		return;
	}
	struct request *request =
		request_new(client->clients->options.pool, &(struct line_request){.command = LINE_PING});
	if (request == NULL) {
		client_kill(client);
		return;
	}
	request->answer = answer->answer;
	request->problem = answer->problem;
	client_append(client, request);
}

void client_answer_text(struct client *client, const char *text)
{
	struct request answer = {.kind = REQUEST_LOCAL, .answer = ANSWER_TEXT, .problem = {.text = text}};
	answer_local(client, &answer);
}

void client_answer_problem(struct client *client, enum line_error error, const char *text)
{
	struct request answer = {.kind = REQUEST_LOCAL, .answer = ANSWER_PROBLEM, .problem = {error, text}};
	answer_local(client, &answer);
}

/* Writing ---------------------------------------------------------------------------------------------- */

void client_write(struct client *client)
{
	struct buffer *out = &client->out;
	raft_assert(!client->dead);
	while (out->len > 0) {
		ssize_t n = send(client->fd, out->bytes + out->at, out->len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n <= 0) {
			client_kill(client);
			return;
		}
		raft_assert((size_t)n <= out->len);
		out->at += (size_t)n;
		out->len -= (size_t)n;
	}
	client_watch(client, (short)((client->watched & EV_READ) | (out->len > 0 ? EV_WRITE : 0)));
	if (out->len == 0 && out->bytes != NULL) {
		client->clients->output_bytes -= out->capacity;
		buffer_release(client->clients->options.pool, out);
	}
	if (client->in.len > 0 || client->held != NULL || client->n_parked > 0 ||
	    ((client->watched & EV_READ) == 0 && !client->eof))
		client_mark_ready(client);
}
