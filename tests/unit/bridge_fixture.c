/* See bridge_fixture.h. */
#include "bridge_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

int64_t fixture_now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Members ---------------------------------------------------------------------------------------------- */

void fixture_open_member(struct fixture *fixture, unsigned k)
{
	static const struct zmq_socket_options options = {.kind = ZMQ_SOCKET_ROUTER,
							  .send_queue_frames = 10000,
							  .receive_queue_frames = 10000,
							  .frame_size_max = KV_FRAME_SIZE_MAX};
	char endpoint[128];
	snprintf(endpoint, sizeof endpoint, "ipc://%s/m%u", fixture->dir, k);
	int64_t deadline = fixture_now_ms() + WAIT_MS;
	int r = -EADDRINUSE;
	while (r == -EADDRINUSE && fixture_now_ms() < deadline) /* of an earlier life, closing in the background */
		r = zmq_socket_open(fixture->context, &options, endpoint, &fixture->members[k].socket);
	assert_int_equal(r, 0);
}

void fixture_close_member(struct fixture *fixture, unsigned k)
{
	fixture->members[k] = (struct fake_member){.socket = zmq_socket_free(fixture->members[k].socket)};
}

void fixture_depose_all(struct fixture *fixture)
{
	for (unsigned k = 0; k < FAKE_MEMBERS; k++)
		fixture->members[k].leads = false;
}

void fixture_elect(struct fixture *fixture, unsigned k)
{
	uint64_t term = 0;
	for (unsigned j = 0; j < FAKE_MEMBERS; j++)
		if (fixture->members[j].term > term)
			term = fixture->members[j].term;
	fixture_depose_all(fixture);
	fixture->members[k].leads = true;
	fixture->members[k].term = term + 1;
}

static uint64_t leader_id(const struct fixture *fixture)
{
	for (unsigned k = 0; k < FAKE_MEMBERS; k++)
		if (fixture->members[k].leads)
			return k + 1;
	return 0;
}

static void answer(struct fixture *fixture, const struct fake_member *member, uint64_t id, struct kv_answer_body *body)
{
	body->term = member->term;
	uint8_t *data = kv_frame_add(&fixture->frame, id, 0, KV_REPLY_BODY_SIZE(body->size));
	if (member->loses_replies)
		return; /* the frame is not sent */
	assert_non_null(data);
	kv_reply_encode(data, body);
}

static void take_command(struct fixture *fixture, struct fake_member *member, const struct kv_frame_item *item)
{
	struct kv_answer_body body = {.answer = KV_ANSWER_OK};
	member->n_writes++;
	if (member->withholds_writes)
		return;
	if (!member->leads) {
		body.answer = KV_ANSWER_NOT_LEADER;
		body.number = leader_id(fixture);
	} else if (member->busy_every > 0 && member->n_writes % member->busy_every == 0) {
		body.answer = KV_ANSWER_BUSY;
	} else {
		if (!(member->loses_leadership && member->drops_appended)) {
			struct kv_reply reply =
				kv_store_apply(fixture->store, ++fixture->index, 1, item->body, item->size);
			body.status = reply.status;
			body.number = reply.revision;
		}
		if (member->loses_leadership)
			body = (struct kv_answer_body){.answer = KV_ANSWER_UNKNOWN};
	}
	answer(fixture, member, item->id, &body);
}

static void take_get(struct fixture *fixture, struct fake_member *member, const struct kv_frame_item *item)
{
	struct kv_answer_body body = {.answer = KV_ANSWER_NOT_FOUND};
	struct kv_value value;
	uint8_t flags;
	const uint8_t *key;
	size_t key_size;
	assert_true(kv_get_decode(item->body, item->size, &flags, &key, &key_size));
	if (!member->leads && (flags & KV_GET_STALE) == 0) {
		body.answer = KV_ANSWER_NOT_LEADER;
	} else if (member->refuse_reads != 0) {
		body.answer = member->refuse_reads;
	} else if (kv_store_get(fixture->store, key, key_size, &value)) {
		body = (struct kv_answer_body){
			.answer = KV_ANSWER_OK, .number = value.revision, .data = value.data, .size = value.size};
	}
	/* A large answer gets a frame of its own. */
	answer(fixture, member, item->id, &body);
}

static void take_item(struct fixture *fixture, unsigned k, const struct kv_frame_item *item)
{
	struct fake_member *member = &fixture->members[k];
	struct kv_answer_body body = {.answer = KV_ANSWER_OK};
	struct kv_member_status status = {
		.id = k + 1, .role = member->leads ? 3 : 0, .leader = leader_id(fixture), .term = member->term};
	uint8_t data[KV_STATUS_SIZE];
	switch (item->type) {
	case KV_REQUEST_COMMAND:
		take_command(fixture, member, item);
		return;
	case KV_REQUEST_GET:
		take_get(fixture, member, item);
		return;
	case KV_REQUEST_STATUS:
		kv_status_encode(data, &status);
		body.data = data;
		body.size = sizeof data;
		break;
	case KV_REQUEST_LEADER:
		member->n_probes++;
		body.answer = member->leads ? KV_ANSWER_OK : KV_ANSWER_NOT_LEADER;
		body.number = leader_id(fixture);
		break;
	case KV_REQUEST_MEMBERS: /* like a member that does not know the question: the file has to do */
		body.answer = KV_ANSWER_BAD_REQUEST;
		break;
	default:
		fail_msg("a request of type %u", item->type);
	}
	answer(fixture, member, item->id, &body);
}

static void send_answers(struct fixture *fixture, unsigned k, const struct zmq_identity *to)
{
	if (fixture->frame.n_items > 0 && !fixture->members[k].loses_replies) {
		kv_frame_finish(&fixture->frame, KV_FRAME_REPLIES, fixture->cluster);
		(void)zmq_socket_send(fixture->members[k].socket, to, fixture->frame.buf, fixture->frame.len);
	}
	kv_frame_begin(&fixture->frame);
}

static bool serve(struct fixture *fixture, unsigned k)
{
	struct zmq_identity from;
	struct kv_frame_reader reader;
	struct kv_frame_item item;
	const uint8_t *data;
	size_t len;
	if (fixture->members[k].socket == NULL || fixture->members[k].silent ||
	    zmq_socket_receive(fixture->members[k].socket, &from, &data, &len) != 1)
		return false;
	assert_int_equal(kv_frame_read(data, len, KV_FRAME_REQUESTS, fixture->cluster, &reader), KV_FRAME_OK);
	kv_frame_begin(&fixture->frame);
	while (kv_frame_next(&reader, &item)) {
		take_item(fixture, k, &item);
		if (fixture->frame.len > KV_FRAME_SIZE_MAX / 2)
			send_answers(fixture, k, &from);
	}
	send_answers(fixture, k, &from);
	return true;
}

static void pump_fd(struct fixture *fixture, int fd, short events, int wait_ms)
{
	struct pollfd fds[FAKE_MEMBERS + 1];
	nfds_t n = 0;
	bool busy = false;
	for (unsigned k = 0; k < FAKE_MEMBERS; k++)
		busy = serve(fixture, k) || busy;
	for (unsigned k = 0; k < FAKE_MEMBERS; k++) {
		struct fake_member *member = &fixture->members[k];
		if (member->socket == NULL || member->silent)
			continue;
		busy = busy || zmq_socket_pending(member->socket);
		fds[n++] = (struct pollfd){.fd = zmq_socket_fd(member->socket), .events = POLLIN};
	}
	if (fd >= 0)
		fds[n++] = (struct pollfd){.fd = fd, .events = events};
	(void)poll(fds, n, busy ? 0 : wait_ms); /* EINTR: as if the time were over */
}

void fixture_pump(struct fixture *fixture, int wait_ms)
{
	pump_fd(fixture, -1, 0, wait_ms);
}

/* The bridge ------------------------------------------------------------------------------------------- */

/* raft-bridge lies beside the tests' folder: build/tests/test_bridge, build/raft-bridge. */
static void find_bridge(char path[512])
{
	ssize_t n = readlink("/proc/self/exe", path, 480);
	assert_true(n > 0);
	path[n] = '\0';
	for (unsigned k = 0; k < 2; k++) {
		char *slash = strrchr(path, '/');
		assert_non_null(slash);
		*slash = '\0';
	}
	strcat(path, "/raft-bridge");
	if (access(path, X_OK) < 0)
		fail_msg("%s is not there: build it first", path);
}

static void write_config(struct fixture *fixture, const char *bridge_keys)
{
	FILE *file = fopen(fixture->config_path, "w");
	assert_non_null(file);
	fprintf(file, "[cluster]\nname = test\n");
	for (unsigned k = 0; k < FAKE_MEMBERS; k++)
		fprintf(file, "[member %u]\npeer = ipc://%s/p%u\nclient = ipc://%s/m%u\n", k + 1, fixture->dir, k,
			fixture->dir, k);
	fprintf(file, "[raft]\nheartbeat_ms = 20\nelection_timeout_min_ms = 50\nelection_timeout_max_ms = 100\n"
		      "log_level = warning\n");
	fprintf(file, "[bridge]\nsocket = %s\n%s", fixture->socket_path, bridge_keys);
	assert_int_equal(fclose(file), 0);
}

void fixture_start(struct fixture *fixture, const char *bridge_keys)
{
	char path[512];
	*fixture = (struct fixture){.dir = "/tmp/raft-bridge-test-XXXXXX", .cluster = kv_cluster_id("test")};
	assert_non_null(mkdtemp(fixture->dir));
	snprintf(fixture->config_path, sizeof fixture->config_path, "%s/raft.conf", fixture->dir);
	snprintf(fixture->socket_path, sizeof fixture->socket_path, "%s/kv.sock", fixture->dir);
	write_config(fixture, bridge_keys);
	find_bridge(path);
	fixture->store = kv_store_new();
	assert_non_null(fixture->store);
	fixture->bridge = fork(); /* before there is a ZeroMQ context */
	assert_true(fixture->bridge >= 0);
	if (fixture->bridge == 0) {
		execl(path, "raft-bridge", "--config", fixture->config_path, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(zmq_context_new(&fixture->context), 0);
	for (unsigned k = 0; k < FAKE_MEMBERS; k++)
		fixture_open_member(fixture, k);
	fixture_elect(fixture, 0);
}

int fixture_wait_bridge(struct fixture *fixture)
{
	int64_t deadline = fixture_now_ms() + WAIT_MS;
	int status = 0;
	pid_t r = 0;
	while (r == 0 && fixture_now_ms() < deadline) {
		r = waitpid(fixture->bridge, &status, WNOHANG);
		if (r == 0)
			fixture_pump(fixture, 5);
	}
	if (r == 0) {
		kill(fixture->bridge, SIGKILL);
		waitpid(fixture->bridge, &status, 0);
		fixture->bridge = 0;
		fail_msg("the bridge did not end");
	}
	fixture->bridge = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void fixture_stop(struct fixture *fixture)
{
	int code = 0;
	if (fixture->bridge > 0) {
		kill(fixture->bridge, SIGTERM);
		code = fixture_wait_bridge(fixture);
	}
	for (unsigned k = 0; k < FAKE_MEMBERS; k++)
		zmq_socket_free(fixture->members[k].socket);
	zmq_context_free(fixture->context);
	kv_store_free(fixture->store);
	kv_frame_free(&fixture->frame);
	char command[128];
	snprintf(command, sizeof command, "rm -r %s", fixture->dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(code, 0);
}

size_t fixture_bridge_rss(const struct fixture *fixture)
{
	char path[64];
	size_t pages = 0, resident = 0;
	snprintf(path, sizeof path, "/proc/%d/statm", (int)fixture->bridge);
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%zu %zu", &pages, &resident), 2);
	fclose(file);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

void fixture_expect_rss(const struct fixture *fixture, size_t max)
{
#if defined(__SANITIZE_ADDRESS__)
	bool sanitized = true;
#elif defined(__has_feature)
	bool sanitized = __has_feature(address_sanitizer);
#else
	bool sanitized = false;
#endif
	size_t rss = fixture_bridge_rss(fixture);
	if (!sanitized && rss > max)
		fail_msg("the bridge uses %zu bytes, more than %zu", rss, max);
}

/* Clients ---------------------------------------------------------------------------------------------- */

int fixture_connect(struct fixture *fixture)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int64_t deadline = fixture_now_ms() + WAIT_MS;
	memcpy(address.sun_path, fixture->socket_path, strlen(fixture->socket_path));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	while (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		assert_true(fixture_now_ms() < deadline);
		fixture_pump(fixture, 5);
	}
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

void fixture_send(struct fixture *fixture, int fd, const char *data, size_t size)
{
	int64_t deadline = fixture_now_ms() + WAIT_MS;
	while (size > 0) {
		ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			assert_true(fixture_now_ms() < deadline);
			pump_fd(fixture, fd, POLLOUT, 20);
			continue;
		}
		data += n;
		size -= (size_t)n;
	}
}

void fixture_say(struct fixture *fixture, int fd, const char *text)
{
	fixture_send(fixture, fd, text, strlen(text));
}

/* Waits for a complete line in the socket's queue and reads no more than that. */
char *fixture_read_line(struct fixture *fixture, int fd, size_t *ret_size)
{
	int64_t deadline = fixture_now_ms() + WAIT_MS;
	size_t size = 0, capacity = 65536;
	char *line = malloc(capacity);
	assert_non_null(line);
	for (;;) {
		ssize_t n = recv(fd, line + size, capacity - size, MSG_PEEK);
		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			assert_true(fixture_now_ms() < deadline);
			pump_fd(fixture, fd, POLLIN, 20);
			continue;
		}
		char *newline = n > 0 ? memchr(line + size, '\n', (size_t)n) : NULL;
		size_t take = newline != NULL ? (size_t)(newline - line) + 1 - size : (size_t)n;
		if (n == 0) {
			assert_int_equal(size, 0);
			free(line);
			return NULL;
		}
		assert_int_equal(recv(fd, line + size, take, 0), take);
		size += take;
		if (newline != NULL)
			break;
		if (size == capacity) {
			capacity *= 2;
			line = realloc(line, capacity);
			assert_non_null(line);
		}
	}
	line[size - 1] = '\0';
	if (ret_size != NULL)
		*ret_size = size - 1;
	return line;
}

void fixture_expect(struct fixture *fixture, int fd, const char *expected)
{
	char *line = fixture_read_line(fixture, fd, NULL);
	assert_non_null(line);
	assert_string_equal(line, expected);
	free(line);
}

void fixture_expect_start(struct fixture *fixture, int fd, const char *start)
{
	char *line = fixture_read_line(fixture, fd, NULL);
	assert_non_null(line);
	if (strncmp(line, start, strlen(start)) != 0)
		fail_msg("expected '%s…', got '%.200s'", start, line);
	free(line);
}

void fixture_expect_end(struct fixture *fixture, int fd)
{
	assert_null(fixture_read_line(fixture, fd, NULL));
	close(fd);
}
