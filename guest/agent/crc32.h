// CRC-32 as in zlib (IEEE 802.3): Node has it built in, which makes the host's side cheap.
#ifndef BULKHEAD_CRC32_H
#define BULKHEAD_CRC32_H

#include <stddef.h>
#include <stdint.h>

// Fills the tables; once, before anything else here.
void crc32_init(void);

// Goes on from the checksum of what came before; 0 to begin.
uint32_t crc32_update(uint32_t crc, const uint8_t *data, size_t size);

#endif
