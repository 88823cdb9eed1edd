/*
 * Writes metrics in Prometheus' text format (version 0.0.4) into a buffer of bounded size.
 *
 *     metrics_family(text, &family);                 # HELP and # TYPE
 *     metrics_value(text, labels, value);            one sample of it
 *
 * Numbers are written from integers only: the same state gives the same bytes. What does not fit sets text->overflow and
 * is left out as a whole line, so that a reader never sees half a number.
 *
 * Pure: no clock, no I/O. What this must not know: what is measured.
 */
#ifndef RAFT_KV_METRICS_TEXT_H
#define RAFT_KV_METRICS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum metrics_type { METRICS_GAUGE, METRICS_COUNTER, METRICS_HISTOGRAM };

struct metrics_family {
	const char *name;
	enum metrics_type type;
	const char *help; /* one line, for people; also the text in the tables of README.md */
};

struct metrics_text {
	char *buf; /* not owned */
	size_t capacity;
	size_t len;
	bool overflow;
	const struct metrics_family *family; /* of the samples that follow */
};

/* Up to two labels; a NULL name ends them. Values are escaped. */
struct metrics_labels {
	const char *name, *value;
	const char *name_2, *value_2;
};
#define METRICS_NO_LABELS ((const struct metrics_labels){NULL, NULL, NULL, NULL})
#define METRICS_LABEL(name, value) ((const struct metrics_labels){name, value, NULL, NULL})
#define METRICS_LABELS(name, value, name_2, value_2) ((const struct metrics_labels){name, value, name_2, value_2})

/* An empty text in a buffer of the caller's. */
struct metrics_text metrics_text(char *buf, size_t capacity);

void metrics_family(struct metrics_text *text, const struct metrics_family *family);
void metrics_value(struct metrics_text *text, struct metrics_labels labels, uint64_t value);
/* In seconds, from microseconds. */
void metrics_seconds(struct metrics_text *text, struct metrics_labels labels, uint64_t value_us);

/* Durations counted by powers of two: bucket k holds those of less than 2^(k + METRICS_BUCKET_SHIFT) microseconds (16 µs …
 * 8 s), the last one the rest. */
#define METRICS_BUCKETS 20u
#define METRICS_BUCKET_SHIFT 4u
struct metrics_histogram {
	uint64_t buckets[METRICS_BUCKETS];
	uint64_t sum_us;
};
void metrics_count(struct metrics_histogram *histogram, uint64_t value_us);
void metrics_histogram(struct metrics_text *text, const struct metrics_histogram *histogram);

/* A family with one sample without labels. */
void metrics_single(struct metrics_text *text, const struct metrics_family *family, uint64_t value);
void metrics_single_seconds(struct metrics_text *text, const struct metrics_family *family, uint64_t value_us);

/* A line of plain text, for answers to health checks. A newline is added. */
void metrics_line(struct metrics_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
