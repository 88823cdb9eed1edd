/* See line.h: writing words the way that line.c reads them. */
#include "bridge/line.h"

#include "daemon/assert.h"

#include <string.h>

/* True when all eight bytes are printable ASCII other than the space and the quote. */
static inline bool eight_are_plain(const uint8_t *p)
{
	const uint64_t ones = UINT64_MAX / 255;
	uint64_t x;
	memcpy(&x, p, sizeof x);
	uint64_t quote = x ^ (ones * '"');
	uint64_t del = x ^ (ones * 0x7f);
	uint64_t hit = ((x - ones * 0x21) & ~x) | ((quote - ones) & ~quote) | ((del - ones) & ~del) | x;
	return (hit & (ones * 0x80)) == 0;
}

/* Length of the well-formed UTF-8 sequence of two bytes and more at data, 0 if there is none (Unicode 15, table 3-7).
 * The control characters U+0080 to U+009F count as none: a terminal obeys them. */
static size_t utf8_sequence(const uint8_t *data, size_t size)
{
	uint8_t low = 0x80, high = 0xbf;
	size_t length;
	raft_assert(size > 0);
	if (data[0] >= 0xc2 && data[0] <= 0xdf) {
		length = 2;
		low = data[0] == 0xc2 ? 0xa0 : low;
	} else if (data[0] >= 0xe0 && data[0] <= 0xef) {
		length = 3;
		low = data[0] == 0xe0 ? 0xa0 : low;
		high = data[0] == 0xed ? 0x9f : high;
	} else if (data[0] >= 0xf0 && data[0] <= 0xf4) {
		length = 4;
		low = data[0] == 0xf0 ? 0x90 : low;
		high = data[0] == 0xf4 ? 0x8f : high;
	} else {
		return 0;
	}
	if (size < length || data[1] < low || data[1] > high)
		return 0;
	for (size_t k = 2; k < length; k++)
		if (data[k] < 0x80 || data[k] > 0xbf)
			return 0;
	return length;
}

bool line_is_plain(const uint8_t *data, size_t size)
{
	size_t at = 0;
	while (at < size) {
		if (size - at >= 8 && eight_are_plain(data + at)) {
			at += 8;
			continue;
		}
		if (data[at] >= 0x80) {
			size_t length = utf8_sequence(data + at, size - at);
			if (length == 0)
				return false;
			at += length;
			continue;
		}
		if (data[at] <= ' ' || data[at] == '"' || data[at] == 0x7f)
			return false;
		at++;
	}
	return size > 0;
}

/* Writes one byte of a quoted word, at most 4 bytes. */
static size_t write_byte(uint8_t *buf, uint8_t byte)
{
	static const uint8_t digits[] = "0123456789abcdef";
	uint8_t letter = 0;
	switch (byte) {
	case '"':
	case '\\':
		letter = byte;
		break;
	case '\n':
		letter = 'n';
		break;
	case '\r':
		letter = 'r';
		break;
	case '\t':
		letter = 't';
		break;
	default:
		if (byte >= ' ' && byte < 0x7f) {
			buf[0] = byte;
			return 1;
		}
	}
	buf[0] = '\\';
	buf[1] = letter != 0 ? letter : 'x';
	if (letter != 0)
		return 2;
	buf[2] = digits[byte >> 4];
	buf[3] = digits[byte & 15];
	return 4;
}

/* The bytes between the quotes. buf NULL: only counts. */
static size_t write_quoted(uint8_t *buf, const uint8_t *data, size_t size)
{
	uint8_t scratch[4];
	size_t written = 0;
	size_t at = 0;
	while (at < size) {
		size_t length = data[at] >= 0x80 ? utf8_sequence(data + at, size - at) : 0;
		if (length > 0) {
			if (buf != NULL)
				memcpy(buf + written, data + at, length);
			written += length;
			at += length;
			continue;
		}
		written += write_byte(buf != NULL ? buf + written : scratch, data[at]);
		at++;
	}
	return written;
}

size_t line_written_size(const uint8_t *data, size_t size)
{
	raft_assert(size <= (SIZE_MAX - 2) / 4);
	return line_is_plain(data, size) ? size : 2 + write_quoted(NULL, data, size);
}

size_t line_write_word(uint8_t *buf, const uint8_t *data, size_t size)
{
	raft_assert(size <= (SIZE_MAX - 2) / 4);
	if (line_is_plain(data, size)) {
		memcpy(buf, data, size);
		return size;
	}
	buf[0] = '"';
	size_t inner = write_quoted(buf + 1, data, size);
	buf[1 + inner] = '"';
	raft_assert(inner <= 4 * size);
	return inner + 2;
}

size_t line_write_u64(uint8_t *buf, uint64_t value)
{
	uint8_t digits[LINE_U64_SIZE_MAX];
	size_t at = sizeof digits;
	do {
		digits[--at] = (uint8_t)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	memcpy(buf, digits + at, sizeof digits - at);
	raft_assert(sizeof digits - at >= 1);
	return sizeof digits - at;
}
