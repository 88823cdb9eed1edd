/*
 * The endpoints that a ZeroMQ socket takes: tcp by address, name and interface, ipc; and what it refuses.
 */
#include "tests/unit/zmq_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

static void echo_over(const char *endpoint)
{
	struct zmq_context *context;
	struct zmq_socket *router, *dealer;
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	assert_int_equal(zmq_context_new(&context), 0);
	assert_int_equal(zmq_socket_open(context, &router_options, endpoint, &router), 0);
	assert_int_equal(zmq_socket_open(context, &dealer_options, endpoint, &dealer), 0);
	assert_int_equal(wait_link(dealer), ZMQ_LINK_UP);
	assert_int_equal(send_text(dealer, NULL, "there"), 0);
	assert_true(take(router, &from, &data, &len));
	assert_int_equal(send_text(router, &from, "and back"), 0);
	assert_takes(dealer, "and back");
	router = zmq_socket_free(router);
	assert_int_equal(wait_link(dealer), ZMQ_LINK_DOWN);
	zmq_socket_free(dealer);
	zmq_context_free(context);
}

static void test_tcp_works_over_ipv4_and_ipv6(void **state)
{
	(void)state;
	char endpoint[64];
	snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", free_port(AF_INET));
	echo_over(endpoint);
	uint16_t port = free_port(AF_INET6);
	if (port == 0) {
		print_message("no IPv6 on this machine: skipped\n");
		skip();
	}
	snprintf(endpoint, sizeof(endpoint), "tcp://[::1]:%u", port);
	echo_over(endpoint);
}

static void test_tcp_works_with_a_name_on_both_sides(void **state)
{
	(void)state;
	char endpoint[64];
	snprintf(endpoint, sizeof(endpoint), "tcp://localhost:%u", free_port(AF_INET));
	echo_over(endpoint);
	snprintf(endpoint, sizeof(endpoint), "tcp://lo:%u", free_port(AF_INET)); /* libzmq: the interface */
	struct zmq_context *context;
	struct zmq_socket *router;
	assert_int_equal(zmq_context_new(&context), 0);
	assert_int_equal(zmq_socket_open(context, &router_options, endpoint, &router), 0);
	zmq_socket_free(router);
	zmq_context_free(context);
}

/* A directory for the ipc tests, and a path in it. */
static void ipc_path(char *ret_path, size_t size)
{
	char folder[] = "/tmp/raft-kv-test-XXXXXX";
	assert_non_null(mkdtemp(folder));
	snprintf(ret_path, size, "%s/s", folder);
}

static void ipc_clean(char *path)
{
	(void)unlink(path);
	*strrchr(path, '/') = 0;
	assert_int_equal(rmdir(path), 0);
}

static void test_ipc_works_and_replaces_what_a_dead_process_left(void **state)
{
	(void)state;
	char path[108], endpoint[128];
	ipc_path(path, sizeof(path));
	snprintf(endpoint, sizeof(endpoint), "ipc://%s", path);
	echo_over(endpoint);

	/* As SIGKILL leaves it: the path is there, nobody listens. */
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strcpy(address.sun_path, path);
	(void)unlink(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	close(fd);
	assert_int_equal(access(path, F_OK), 0);
	echo_over(endpoint);
	ipc_clean(path);
}

static void test_ipc_never_takes_the_place_of_the_living_or_of_a_file(void **state)
{
	(void)state;
	struct zmq_context *context;
	struct zmq_socket *first, *second = NULL;
	char path[108], endpoint[128];
	ipc_path(path, sizeof(path));
	snprintf(endpoint, sizeof(endpoint), "ipc://%s", path);
	assert_int_equal(zmq_context_new(&context), 0);
	assert_int_equal(zmq_socket_open(context, &router_options, endpoint, &first), 0);
	assert_int_equal(zmq_socket_open(context, &router_options, endpoint, &second), -EADDRINUSE);
	zmq_socket_free(first);
	zmq_context_free(context);

	(void)unlink(path);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "keep", 4), 4);
	close(fd);
	assert_int_equal(zmq_context_new(&context), 0);
	assert_int_equal(zmq_socket_open(context, &router_options, endpoint, &second), -EEXIST);
	assert_null(second);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 4);
	zmq_context_free(context);
	ipc_clean(path);
}

static void test_bad_endpoints_are_refused_with_a_reason(void **state)
{
	(void)state;
	struct pair pair;
	struct zmq_socket *socket = NULL;
	char longest[200] = "ipc:///nowhere/";
	pair_open(&pair);
	const struct {
		const char *endpoint;
		int router, dealer;
	} cases[] = {
		{"", -EPROTONOSUPPORT, -EPROTONOSUPPORT},
		{"inproc://x", -EPROTONOSUPPORT, -EPROTONOSUPPORT},
		{"pgm://x", -EPROTONOSUPPORT, -EPROTONOSUPPORT},
		{"ipc://relative", -EINVAL, -EINVAL},
		{"ipc://@abstract", -EINVAL, -EINVAL},
		{"ipc://*", -EINVAL, -EINVAL},
		{"ipc://", -EINVAL, -EINVAL},
		{"tcp://", -EINVAL, -EINVAL},
		{"tcp://127.0.0.1", -EINVAL, -EINVAL},
		{"tcp://127.0.0.1:port", -EINVAL, -EINVAL},
		{"tcp://127.0.0.1:99999", -EINVAL, -EINVAL},
		{"tcp://127.0.0.1:65536", -EINVAL, -EINVAL},
		{"tcp://127.0.0.1:0", -EINVAL, -EINVAL},
		{"tcp://127.0.0.1:*", -EINVAL, -EINVAL},
		{"tcp://127.0.0.1:", -EINVAL, -EINVAL},
		{"tcp://:7000", -EINVAL, -EINVAL},
		{"tcp://127.0.0.1:7000 ", -EINVAL, -EINVAL},
		{"tcp://127.0.0.1:7000;127.0.0.1:7001", -EINVAL, -EINVAL},
		{"tcp://no-such-host.invalid:7000", -ENODEV, 0},
		{"tcp://192.0.2.1:7000", -EADDRNOTAVAIL, 0}, /* reserved for documentation: not ours */
		{"ipc:///nowhere/at/all/s", -ENOENT, 0},
		{pair.endpoint, -EADDRINUSE, 0},
		{longest, -ENAMETOOLONG, -ENAMETOOLONG},
	};
	memset(longest + 15, 'x', 99); /* behind "ipc://", a path of 108 bytes */
	for (unsigned k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		int r = zmq_socket_open(pair.context, &router_options, cases[k].endpoint, &socket);
		if (r != cases[k].router)
			print_error("%s: %d\n", cases[k].endpoint, r);
		assert_int_equal(r, cases[k].router);
		assert_null(socket);
		r = zmq_socket_open(pair.context, &dealer_options, cases[k].endpoint, &socket);
		if (r != cases[k].dealer)
			print_error("%s: %d\n", cases[k].endpoint, r);
		assert_int_equal(r, cases[k].dealer);
		socket = zmq_socket_free(socket);
	}
	longest[15 + 98] = 0; /* 107 bytes: there is no such folder, but it is no longer too long */
	assert_int_equal(zmq_socket_open(pair.context, &router_options, longest, &socket), -ENOENT);
	pair_close(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp_works_over_ipv4_and_ipv6),
		cmocka_unit_test(test_tcp_works_with_a_name_on_both_sides),
		cmocka_unit_test(test_ipc_works_and_replaces_what_a_dead_process_left),
		cmocka_unit_test(test_ipc_never_takes_the_place_of_the_living_or_of_a_file),
		cmocka_unit_test(test_bad_endpoints_are_refused_with_a_reason),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
