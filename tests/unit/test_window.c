/* The session's window: numbers, epochs, and what is known of every write's fate. */
#include "bridge/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N 200u
#define CAUSE 4u

struct fixture {
	struct window window;
	struct window_write writes[N];
	unsigned n;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof *fixture);
	window_init(&fixture->window);
	*state = fixture;
	return fixture == NULL;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	window_check(&fixture->window);
	window_fini(&fixture->window);
	free(fixture);
	return 0;
}

/* Adds n writes with the deadline. */
static void push(struct fixture *fixture, unsigned n, uint64_t deadline_ms)
{
	for (unsigned k = 0; k < n; k++) {
		struct window_write *write = &fixture->writes[fixture->n++];
		write->size = 100;
		write->deadline_ms = deadline_ms;
		assert_int_equal(window_push(&fixture->window, write), 0);
	}
	window_check(&fixture->window);
}

/* Takes and sends all that there is; returns how many. */
static unsigned send_all(struct fixture *fixture)
{
	struct window_write *write;
	uint64_t first = 0, end = 0;
	unsigned n = 0;
	while ((write = window_take(&fixture->window)) != NULL) {
		if (first == 0)
			first = write->sequence;
		end = write->sequence + 1;
		n++;
	}
	if (n > 0)
		window_sent(&fixture->window, first, end);
	window_check(&fixture->window);
	return n;
}

static void reject(struct fixture *fixture, unsigned k, bool expect_current)
{
	bool current = window_reject(&fixture->window, &fixture->writes[k], fixture->window.epoch, CAUSE);
	assert_int_equal(current, expect_current);
	window_check(&fixture->window);
}

static void done(struct fixture *fixture, unsigned k)
{
	window_done(&fixture->window, &fixture->writes[k]);
	window_check(&fixture->window);
}

static void expect_expiry(struct fixture *fixture, uint64_t now_ms, unsigned k, enum window_verdict verdict)
{
	enum window_verdict got;
	struct window_write *write = window_expire(&fixture->window, now_ms, &got);
	assert_ptr_equal(write, &fixture->writes[k]);
	assert_int_equal(got, verdict);
	window_check(&fixture->window);
}

static void expect_no_expiry(struct fixture *fixture, uint64_t now_ms)
{
	enum window_verdict verdict;
	assert_null(window_expire(&fixture->window, now_ms, &verdict));
}

static void writes_are_numbered_in_order_when_first_sent(void **state)
{
	struct fixture *fixture = *state;
	push(fixture, 3, 100);
	assert_int_equal(fixture->writes[0].sequence, 0);
	assert_int_equal(send_all(fixture), 3);
	for (unsigned k = 0; k < 3; k++) {
		assert_int_equal(fixture->writes[k].sequence, k + 1);
		assert_ptr_equal(window_find(&fixture->window, k + 1), &fixture->writes[k]);
	}
	assert_int_equal(send_all(fixture), 0);
	assert_null(window_find(&fixture->window, 0));
	assert_null(window_find(&fixture->window, 4));
}

static void acknowledged_is_the_lowest_unanswered(void **state)
{
	struct fixture *fixture = *state;
	push(fixture, 3, 100);
	assert_int_equal(send_all(fixture), 3);
	assert_int_equal(window_acknowledged(&fixture->window), 1);
	done(fixture, 1);
	assert_int_equal(window_acknowledged(&fixture->window), 1);
	done(fixture, 0);
	assert_int_equal(window_acknowledged(&fixture->window), 3);
	done(fixture, 2);
	assert_int_equal(window_acknowledged(&fixture->window), 4);
	assert_true(window_is_empty(&fixture->window));
}

static void a_restart_sends_everything_unanswered_again_once(void **state)
{
	struct fixture *fixture = *state;
	push(fixture, 5, 100);
	assert_int_equal(send_all(fixture), 5);
	done(fixture, 0);
	done(fixture, 2);
	window_restart(&fixture->window);
	assert_int_equal(send_all(fixture), 3);
	assert_int_equal(fixture->writes[1].copies, 2);
	assert_int_equal(send_all(fixture), 0);
}

static void a_rejection_of_an_old_copy_is_no_cause_to_restart(void **state)
{
	struct fixture *fixture = *state;
	push(fixture, 2, 100);
	assert_int_equal(send_all(fixture), 2);
	uint64_t old = fixture->window.epoch;
	window_restart(&fixture->window);
	assert_int_equal(send_all(fixture), 2);
	assert_false(window_reject(&fixture->window, &fixture->writes[0], old, CAUSE));
	assert_int_equal(fixture->writes[0].copies, 1);
	reject(fixture, 0, true);
	assert_int_equal(fixture->writes[0].copies, 0);
	reject(fixture, 0, false); /* a second answer to the same copy */
}

static void a_frame_that_could_not_be_sent_leaves_no_trace(void **state)
{
	struct fixture *fixture = *state;
	push(fixture, 2, 100);
	struct window_write *write = window_take(&fixture->window);
	assert_non_null(window_take(&fixture->window));
	window_untake(&fixture->window, write->sequence);
	window_check(&fixture->window);
	expect_expiry(fixture, 100, 0, WINDOW_FAILED);
	expect_expiry(fixture, 100, 1, WINDOW_FAILED);
	assert_true(window_is_empty(&fixture->window));
}

static void a_write_never_sent_fails_and_takes_no_number(void **state)
{
	struct fixture *fixture = *state;
	push(fixture, 2, 100);
	push(fixture, 1, 200);
	expect_no_expiry(fixture, 99);
	assert_int_equal(window_deadline_ms(&fixture->window), 100);
	expect_expiry(fixture, 100, 0, WINDOW_FAILED);
	expect_expiry(fixture, 100, 1, WINDOW_FAILED);
	expect_no_expiry(fixture, 100);
	assert_int_equal(window_deadline_ms(&fixture->window), 200);
	assert_int_equal(send_all(fixture), 1);
	assert_int_equal(fixture->writes[2].sequence, 1);
}

static void a_write_sent_and_unanswered_is_unknown_and_stays(void **state)
{
	struct fixture *fixture = *state;
	push(fixture, 1, 100);
	assert_int_equal(send_all(fixture), 1);
	expect_expiry(fixture, 100, 0, WINDOW_UNKNOWN);
	expect_no_expiry(fixture, 1000);
	assert_int_equal(window_deadline_ms(&fixture->window), UINT64_MAX);
	window_restart(&fixture->window);
	assert_int_equal(send_all(fixture), 1);
	done(fixture, 0);
	assert_true(window_is_empty(&fixture->window));
}

static void a_write_rejected_everywhere_fails_and_gives_its_number_back(void **state)
{
	struct fixture *fixture = *state;
	push(fixture, 2, 100);
	push(fixture, 1, 200);
	assert_int_equal(send_all(fixture), 3);
	for (unsigned k = 0; k < 3; k++)
		reject(fixture, k, true);
	expect_expiry(fixture, 100, 0, WINDOW_FAILED);
	expect_expiry(fixture, 100, 1, WINDOW_FAILED);
	expect_no_expiry(fixture, 100);
	window_restart(&fixture->window);
	assert_int_equal(send_all(fixture), 1);
	assert_int_equal(fixture->writes[2].sequence, 1);
	assert_int_equal(fixture->writes[0].cause, CAUSE);
}

static void a_rejected_write_before_one_in_doubt_is_voided(void **state)
{
	struct fixture *fixture = *state;
	push(fixture, 2, 100);
	assert_int_equal(send_all(fixture), 2);
	reject(fixture, 0, true);
	expect_expiry(fixture, 100, 0, WINDOW_VOIDED);
	window_void(&fixture->window, &fixture->writes[0], 48);
	window_check(&fixture->window);
	expect_expiry(fixture, 100, 1, WINDOW_UNKNOWN);
	expect_no_expiry(fixture, 100);
	window_restart(&fixture->window);
	assert_int_equal(send_all(fixture), 2); /* both numbers are used */
	assert_int_equal(fixture->writes[0].sequence, 1);
}

/* An older copy may be in a log although the newer one was rejected. */
static void one_rejection_does_not_clear_an_earlier_doubt(void **state)
{
	struct fixture *fixture = *state;
	push(fixture, 1, 100);
	assert_int_equal(send_all(fixture), 1);
	window_restart(&fixture->window);
	assert_int_equal(send_all(fixture), 1);
	reject(fixture, 0, true);
	expect_expiry(fixture, 100, 0, WINDOW_UNKNOWN);
}

static void an_answer_of_unknown_keeps_the_doubt(void **state)
{
	struct fixture *fixture = *state;
	push(fixture, 1, 100);
	assert_int_equal(send_all(fixture), 1);
	assert_true(window_doubt(&fixture->window, &fixture->writes[0], fixture->window.epoch));
	assert_false(window_doubt(&fixture->window, &fixture->writes[0], fixture->window.epoch));
	expect_expiry(fixture, 100, 0, WINDOW_UNKNOWN);
}

static void a_write_in_doubt_whose_copies_are_all_rejected_keeps_its_number(void **state)
{
	struct fixture *fixture = *state;
	push(fixture, 1, 100);
	push(fixture, 1, 200);
	assert_int_equal(send_all(fixture), 2);
	expect_expiry(fixture, 100, 0, WINDOW_UNKNOWN);
	reject(fixture, 0, true);
	reject(fixture, 1, true);
	expect_expiry(fixture, 200, 1, WINDOW_FAILED); /* gives number 2 back, past the abandoned one */
	assert_int_equal(fixture->writes[0].sequence, 1);
}

static void a_forgotten_session_hands_out_the_doubtful_and_keeps_the_others_in_order(void **state)
{
	struct fixture *fixture = *state;
	push(fixture, 6, 100);
	assert_int_equal(send_all(fixture), 6);
	reject(fixture, 1, true);
	reject(fixture, 3, true);
	reject(fixture, 4, true);
	done(fixture, 2);
	push(fixture, 1, 100);
	assert_ptr_equal(window_forget(&fixture->window), &fixture->writes[5]);
	assert_ptr_equal(window_forget(&fixture->window), &fixture->writes[0]);
	assert_null(window_forget(&fixture->window));
	window_check(&fixture->window);
	assert_int_equal(send_all(fixture), 4);
	assert_int_equal(fixture->writes[1].sequence, 1);
	assert_int_equal(fixture->writes[3].sequence, 2);
	assert_int_equal(fixture->writes[4].sequence, 3);
	assert_int_equal(fixture->writes[6].sequence, 4);
}

static void the_window_is_bounded_in_bytes_but_lets_one_of_any_size_through(void **state)
{
	struct fixture *fixture = *state;
	for (unsigned k = 0; k < 3; k++) {
		fixture->writes[k].size = WINDOW_NUMBERED_BYTES_MAX - 10;
		fixture->writes[k].deadline_ms = 1;
		assert_int_equal(window_push(&fixture->window, &fixture->writes[k]), 0);
	}
	assert_int_equal(send_all(fixture), 1);
	done(fixture, 0);
	assert_int_equal(send_all(fixture), 1);
	assert_true(window_has_room(&fixture->window));
	for (unsigned k = 3; k < 9; k++) {
		fixture->writes[k].size = WINDOW_NUMBERED_BYTES_MAX;
		assert_int_equal(window_push(&fixture->window, &fixture->writes[k]), 0);
	}
	assert_false(window_has_room(&fixture->window));
}

static void the_window_is_bounded_in_number(void **state)
{
	struct fixture *fixture = *state;
	struct window_write *writes = calloc(WINDOW_NUMBERED_MAX + 5, sizeof *writes);
	assert_non_null(writes);
	for (unsigned k = 0; k < WINDOW_NUMBERED_MAX + 5; k++)
		assert_int_equal(window_push(&fixture->window, &writes[k]), 0);
	assert_int_equal(send_all(fixture), WINDOW_NUMBERED_MAX);
	window_done(&fixture->window, &writes[1]); /* not the first: its place is not free yet */
	assert_int_equal(send_all(fixture), 0);
	window_done(&fixture->window, &writes[0]);
	assert_int_equal(send_all(fixture), 2);
	window_fini(&fixture->window);
	window_init(&fixture->window);
	free(writes);
}

/* A model beside the window: which copies exist, and what has become of each. The window may say "failed" only when
 * the model knows that no copy can be applied. */
struct model {
	unsigned doubtful; /* copies unanswered or answered "unknown" */
	bool answered;
};

static void step(struct fixture *fixture, struct model *models, unsigned *seed, uint64_t *now_ms)
{
	struct window *window = &fixture->window;
	unsigned k = (unsigned)rand_r(seed) % N;
	struct window_write *write = &fixture->writes[k];
	enum window_verdict verdict;
	switch ((unsigned)rand_r(seed) % 8) {
	case 0:
	case 1:
		if (fixture->n < N)
			push(fixture, 1, *now_ms + 50);
		break;
	case 2:
		for (unsigned n = 0; n < 4 && (write = window_take(window)) != NULL; n++) {
			if (rand_r(seed) % 4 == 0) {
				window_untake(window, write->sequence);
				break;
			}
			window_sent(window, write->sequence, write->sequence + 1);
			models[write - fixture->writes].doubtful++;
		}
		break;
	case 3:
		if (write->sequence != 0 && write->in_flight && !write->voided) {
			assert_true(window_reject(window, write, window->epoch, CAUSE));
			models[k].doubtful--;
		}
		break;
	case 4:
		if (write->sequence != 0 && models[k].doubtful > 0 && rand_r(seed) % 2 == 0)
			window_done(window, write);
		break;
	case 5:
		window_restart(window);
		break;
	case 6:
		*now_ms += (unsigned)rand_r(seed) % 20;
		while ((write = window_expire(window, *now_ms, &verdict)) != NULL) {
			struct model *model = &models[write - fixture->writes];
			assert_false(model->answered);
			assert_true(write->deadline_ms <= *now_ms);
			model->answered = true;
			assert_int_equal(verdict == WINDOW_UNKNOWN, model->doubtful > 0);
			if (verdict == WINDOW_VOIDED)
				window_void(window, write, 48);
		}
		break;
	case 7:
		if (rand_r(seed) % 16 == 0)
			while ((write = window_forget(window)) != NULL)
				assert_true(models[write - fixture->writes].doubtful > 0 ||
					    models[write - fixture->writes].answered);
		break;
	}
	window_check(window);
}

static void random_histories_never_call_a_doubtful_write_failed(void **state)
{
	unsigned seed = 7;
	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		struct fixture *fixture;
		struct model models[N] = {0};
		uint64_t now_ms = 1;
		assert_int_equal(setup((void **)&fixture), 0);
		for (unsigned n = 0; n < 600; n++)
			step(fixture, models, &seed, &now_ms);
		teardown((void **)&fixture);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(writes_are_numbered_in_order_when_first_sent),
		TEST(acknowledged_is_the_lowest_unanswered),
		TEST(a_restart_sends_everything_unanswered_again_once),
		TEST(a_rejection_of_an_old_copy_is_no_cause_to_restart),
		TEST(a_frame_that_could_not_be_sent_leaves_no_trace),
		TEST(a_write_never_sent_fails_and_takes_no_number),
		TEST(a_write_sent_and_unanswered_is_unknown_and_stays),
		TEST(a_write_rejected_everywhere_fails_and_gives_its_number_back),
		TEST(a_rejected_write_before_one_in_doubt_is_voided),
		TEST(one_rejection_does_not_clear_an_earlier_doubt),
		TEST(an_answer_of_unknown_keeps_the_doubt),
		TEST(a_write_in_doubt_whose_copies_are_all_rejected_keeps_its_number),
		TEST(a_forgotten_session_hands_out_the_doubtful_and_keeps_the_others_in_order),
		TEST(the_window_is_bounded_in_bytes_but_lets_one_of_any_size_through),
		TEST(the_window_is_bounded_in_number),
		cmocka_unit_test(random_histories_never_call_a_doubtful_write_failed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
