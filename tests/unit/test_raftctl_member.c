/*
 * raftctl member against a pretended member that answers what the test says: a change counts as made when a committed membership shows
 * it, not when any entry stands where it stood.
 */
#include "daemon/transport/zmq_socket.h"
#include "kv/admin.h"
#include "kv/request.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CHANGED_AT 50u /* the entry of the change, as the leader says that took it */

struct fixture {
	char dir[64];
	struct zmq_context *context;
	struct zmq_socket *member; /* leads */
	struct kv_frame frame;
	struct kv_membership before, after; /* what it shows, until it was asked for the change and then */
	unsigned n_changes;
	char output[1024]; /* of raftctl, both streams */
};

/* Members 1 … n, committed. */
static struct kv_membership membership(const struct fixture *f, uint64_t index, uint32_t n)
{
	struct kv_membership made = {.index = index, .committed = true, .count = n};
	for (uint32_t k = 0; k < n; k++) {
		struct kv_member *member = &made.members[k];
		*member = (struct kv_member){.id = k + 1, .incarnation = k + 1, .role = KV_MEMBER_VOTER};
		snprintf(member->peer, sizeof member->peer, "ipc://%s/p%u", f->dir, k + 1);
		snprintf(member->client, sizeof member->client, "ipc://%s/m%u", f->dir, k + 1);
	}
	return made;
}

static void setup(struct fixture *f)
{
	char path[128];
	*f = (struct fixture){.dir = "/tmp/raftctl-test-XXXXXX"};
	assert_non_null(mkdtemp(f->dir));
	snprintf(path, sizeof path, "%s/raft.conf", f->dir);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "[cluster]\nname = test\n[member 1]\npeer = ipc://%s/p1\nclient = ipc://%s/m1\n", f->dir, f->dir);
	assert_int_equal(fclose(file), 0);
	f->before = membership(f, 40, 3);
}

/* Starts raftctl, before there is a ZeroMQ context, and then the member. Returns where raftctl's output can be read. */
static int begin(struct fixture *f, pid_t *ret_pid, const char *verb, const char *id)
{
	char program[512], config[128], endpoint[128];
	int out[2];
	ssize_t n = readlink("/proc/self/exe", program, 480);
	assert_true(n > 0);
	program[n] = '\0';
	for (unsigned k = 0; k < 2; k++)
		*strrchr(program, '/') = '\0';
	strcat(program, "/raftctl");
	if (access(program, X_OK) < 0)
		fail_msg("%s is not there: build it first", program);
	snprintf(config, sizeof config, "%s/raft.conf", f->dir);
	assert_int_equal(pipe(out), 0);
	*ret_pid = fork();
	assert_true(*ret_pid >= 0);
	if (*ret_pid == 0) {
		dup2(out[1], STDOUT_FILENO);
		dup2(out[1], STDERR_FILENO);
		close(out[0]);
		close(out[1]);
		execl(program, "raftctl", "--config", config, "member", verb, id, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	static const struct zmq_socket_options options = {.kind = ZMQ_SOCKET_ROUTER,
							  .send_queue_frames = 100,
							  .receive_queue_frames = 100,
							  .frame_size_max = KV_FRAME_SIZE_MAX};
	snprintf(endpoint, sizeof endpoint, "ipc://%s/m1", f->dir);
	assert_int_equal(zmq_context_new(&f->context), 0);
	assert_int_equal(zmq_socket_open(f->context, &options, endpoint, &f->member), 0);
	return out[0];
}

static void answer(struct fixture *f, const struct kv_frame_item *item)
{
	struct kv_answer_body body = {.answer = KV_ANSWER_OK, .term = 1};
	uint8_t data[8192];
	if (item->type == KV_REQUEST_CHANGE) {
		f->n_changes++;
		body.number = CHANGED_AT;
	} else if (item->type == KV_REQUEST_MEMBERS) {
		const struct kv_membership *shown = f->n_changes > 0 ? &f->after : &f->before;
		assert_true(kv_membership_size(shown) <= sizeof data);
		kv_membership_encode(data, shown);
		body.data = data;
		body.size = (uint32_t)kv_membership_size(shown);
	} else {
		assert_int_equal(item->type, KV_REQUEST_LEADER);
	}
	uint8_t *room = kv_frame_add(&f->frame, item->id, 0, KV_REPLY_BODY_SIZE(body.size));
	assert_non_null(room);
	kv_reply_encode(room, &body);
}

static void serve(struct fixture *f)
{
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	while (zmq_socket_receive(f->member, &from, &data, &len) == 1) {
		struct kv_frame_reader reader;
		struct kv_frame_item item;
		uint64_t cluster = kv_cluster_id("test");
		assert_int_equal(kv_frame_read(data, len, KV_FRAME_REQUESTS, cluster, &reader), KV_FRAME_OK);
		kv_frame_begin(&f->frame);
		while (kv_frame_next(&reader, &item))
			answer(f, &item);
		kv_frame_finish(&f->frame, KV_FRAME_REPLIES, cluster);
		(void)zmq_socket_send(f->member, &from, f->frame.buf, f->frame.len); /* or raftctl asks again */
	}
}

/* Runs `raftctl member VERB ID` to its end. Returns its exit code. */
static int run(struct fixture *f, const char *verb, const char *id)
{
	pid_t pid;
	int status;
	size_t size = 0;
	int fd = begin(f, &pid, verb, id);
	for (;;) {
		serve(f);
		struct pollfd fds[] = {{.fd = zmq_socket_fd(f->member), .events = POLLIN},
				       {.fd = fd, .events = POLLIN}};
		(void)poll(fds, 2, zmq_socket_pending(f->member) ? 0 : -1);
		if (fds[1].revents == 0)
			continue;
		ssize_t n = read(fd, f->output + size, sizeof f->output - 1 - size);
		if (n <= 0)
			break;
		size += (size_t)n;
	}
	close(fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void teardown(struct fixture *f)
{
	char command[128];
	zmq_socket_free(f->member);
	zmq_context_free(f->context);
	kv_frame_free(&f->frame);
	snprintf(command, sizeof command, "rm -r %s", f->dir);
	assert_int_equal(system(command), 0);
}

static void test_a_change_that_the_membership_shows_is_made(void **state)
{
	struct fixture f;
	(void)state;
	setup(&f);
	f.after = membership(&f, CHANGED_AT + 2, 2);
	assert_int_equal(run(&f, "remove", "3"), 0);
	assert_string_equal(f.output, "OK 50\n");
	assert_int_equal(f.n_changes, 1);
	teardown(&f);
}

/* The leader that took the change died with it, and the next one committed another membership, at that entry or behind it. */
static void test_a_change_that_was_cut_off_is_not_taken_for_the_one_in_its_place(void **state)
{
	(void)state;
	for (uint64_t index = CHANGED_AT; index <= CHANGED_AT + 1; index++) {
		struct fixture f;
		setup(&f);
		f.after = membership(&f, index, 4);
		assert_int_equal(run(&f, "remove", "3"), 4);
		assert_non_null(strstr(f.output, "the change was lost with its leader"));
		assert_null(strstr(f.output, "OK"));
		teardown(&f);
	}
}

static void test_a_change_that_no_leader_has_any_more_is_lost(void **state)
{
	struct fixture f;
	(void)state;
	setup(&f);
	f.after = f.before;
	assert_int_equal(run(&f, "remove", "3"), 4);
	assert_non_null(strstr(f.output, "the change was lost with its leader"));
	teardown(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_change_that_the_membership_shows_is_made),
		cmocka_unit_test(test_a_change_that_was_cut_off_is_not_taken_for_the_one_in_its_place),
		cmocka_unit_test(test_a_change_that_no_leader_has_any_more_is_lost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
