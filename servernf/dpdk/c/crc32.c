#include "crc32.h"

#define POLYNOMIAL 0xEDB88320u /* reflected */

u32 crc32_table[8][256];

__attribute__((constructor)) static void fill(void)
{
    for (u32 byte = 0; byte < 256; byte++) {
        u32 crc = byte;
        for (u32 bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        crc32_table[0][byte] = crc;
    }
    for (u32 byte = 0; byte < 256; byte++)
        for (u32 i = 1; i < 8; i++) {
            u32 before = crc32_table[i - 1][byte];
            crc32_table[i][byte] = before >> 8 ^ crc32_table[0][before & 0xFF];
        }
}
