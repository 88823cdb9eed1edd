/*
 * Fixed-width little-endian numbers in byte strings: what every format of kv/ is made of.
 *
 * The bytes need not be aligned. On a little-endian machine each of these is one instruction.
 */
#ifndef KV_BYTES_H
#define KV_BYTES_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <string.h>

static inline void kv_put_u16(uint8_t *at, uint16_t number)
{
	number = htole16(number);
	memcpy(at, &number, sizeof(number));
}

static inline void kv_put_u32(uint8_t *at, uint32_t number)
{
	number = htole32(number);
	memcpy(at, &number, sizeof(number));
}

static inline void kv_put_u64(uint8_t *at, uint64_t number)
{
	number = htole64(number);
	memcpy(at, &number, sizeof(number));
}

static inline uint16_t kv_take_u16(const uint8_t *at)
{
	uint16_t number;

	memcpy(&number, at, sizeof(number));
	return le16toh(number);
}

static inline uint32_t kv_take_u32(const uint8_t *at)
{
	uint32_t number;

	memcpy(&number, at, sizeof(number));
	return le32toh(number);
}

static inline uint64_t kv_take_u64(const uint8_t *at)
{
	uint64_t number;

	memcpy(&number, at, sizeof(number));
	return le64toh(number);
}

/* memcpy does not take a null pointer even for nothing; an empty key or value may well be one. */
static inline void kv_put_bytes(uint8_t *at, const uint8_t *bytes, size_t size)
{
	if (size > 0)
		memcpy(at, bytes, size);
}

/* Reserved bytes must be zero, so that a later version can give them a meaning. */
static inline bool kv_all_zero(const uint8_t *at, size_t size)
{
	uint8_t any = 0;

	for (size_t i = 0; i < size; i++)
		any |= at[i];
	return any == 0;
}

#endif
