/*
 * replicator.c: what the library does for programs that were compiled with another replicator.h than its own. A real
 * member in a temporary directory, alone in its cluster and never asked to do anything.
 */
#include "daemon/replicator/replicator.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct place {
	char directory[64];
	char config[96];
	char data[96];
};

static void on_apply(void *arg, uint64_t index, uint64_t time_ms, const uint8_t *data, uint32_t size, uint64_t ticket)
{
	(void)arg, (void)index, (void)time_ms, (void)data, (void)size, (void)ticket;
}

static void on_end(void *arg, uint64_t ticket, int why)
{
	(void)arg, (void)ticket, (void)why;
}

static void on_readable(void *arg, uint64_t ticket)
{
	(void)arg, (void)ticket;
}

static void on_log(void *arg, const struct replicator_event *event)
{
	(void)arg, (void)event;
}

static const struct replicator_machine machine = {
	.size = sizeof machine,
	.apply = on_apply,
	.dropped = on_end,
	.readable = on_readable,
	.unreadable = on_end,
	.log = on_log,
};

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof *place);
	assert_non_null(place);
	strcpy(place->directory, "/tmp/test-replicator-XXXXXX");
	assert_non_null(mkdtemp(place->directory));
	(void)snprintf(place->config, sizeof place->config, "%s/raft.conf", place->directory);
	(void)snprintf(place->data, sizeof place->data, "%s/1", place->directory);
	assert_int_equal(mkdir(place->data, 0700), 0);
	FILE *file = fopen(place->config, "w");
	assert_non_null(file);
	(void)fprintf(
		file,
		"[cluster]\nname = test\n[member 1]\npeer = ipc://%s/p\nclient = ipc://%s/c\n[raft]\ndata_root = %s\n",
		place->directory, place->directory, place->directory);
	assert_int_equal(fclose(file), 0);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;
	char command[128];
	(void)snprintf(command, sizeof command, "rm -rf %s", place->directory);
	int r = system(command);
	free(place);
	return r;
}

static int open_with(const struct place *place, const struct replicator_machine *table, struct replicator **ret,
		     char *message)
{
	*ret = NULL;
	return replicator_new(1, place->config, table, NULL, ret, message);
}

static void a_machine_of_an_older_header_is_taken(void **state)
{
	char message[REPLICATOR_MESSAGE_MAX];
	struct replicator *replicator;
	struct replicator_machine older = machine;
	older.size = offsetof(struct replicator_machine, state_hash) + sizeof(void *);
	assert_int_equal(open_with(*state, &older, &replicator, message), 0);
	replicator_free(replicator);
}

static void a_machine_of_no_known_size_is_refused(void **state)
{
	static const size_t sizes[] = {0, 8, offsetof(struct replicator_machine, state_hash), sizeof machine + 1,
				       SIZE_MAX};
	for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
		char message[REPLICATOR_MESSAGE_MAX];
		struct replicator *replicator;
		struct replicator_machine other = machine;
		other.size = sizes[k];
		assert_int_equal(open_with(*state, &other, &replicator, message), -EINVAL);
		assert_null(replicator);
		assert_non_null(strstr(message, "sizeof(struct replicator_machine)"));
	}
}

static void a_machine_that_lacks_a_function_is_refused(void **state)
{
	char message[REPLICATOR_MESSAGE_MAX];
	struct replicator *replicator;
	struct replicator_machine lacking[5] = {machine, machine, machine, machine, machine};
	lacking[0].apply = NULL;
	lacking[1].dropped = NULL;
	lacking[2].readable = NULL;
	lacking[3].unreadable = NULL;
	lacking[4].log = NULL;
	for (size_t k = 0; k < 5; k++) {
		assert_int_equal(open_with(*state, &lacking[k], &replicator, message), -EINVAL);
		assert_non_null(strstr(message, "lacks one of the functions"));
	}
}

static void status_fits_what_the_program_knows(void **state)
{
	char message[REPLICATOR_MESSAGE_MAX];
	struct replicator *replicator;
	struct {
		struct replicator_status status;
		uint8_t more[32];
	} larger;
	assert_int_equal(open_with(*state, &machine, &replicator, message), 0);

	memset(&larger, 0xee, sizeof larger);
	replicator_get_status(replicator, &larger.status, offsetof(struct replicator_status, cluster));
	assert_int_equal(larger.status.id, 1);
	assert_int_equal(larger.status.cluster, UINT64_C(0xeeeeeeeeeeeeeeee));

	replicator_get_status(replicator, &larger.status, sizeof larger);
	assert_int_not_equal(larger.status.cluster, UINT64_C(0xeeeeeeeeeeeeeeee));
	for (size_t k = 0; k < sizeof larger.more; k++)
		assert_int_equal(larger.more[k], 0);
	replicator_free(replicator);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_machine_of_an_older_header_is_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(a_machine_of_no_known_size_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_machine_that_lacks_a_function_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(status_fits_what_the_program_knows, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
