#include "base/sha256.h"

#include <stdio.h>

#include <openssl/evp.h>

bool
sha256_hex(const void *text, size_t n, char out[SHA256_TEXT])
{
	unsigned char	 digest[EVP_MAX_MD_SIZE];
	unsigned int	 size = 0;

	if (EVP_Digest(text, n, digest, &size, EVP_sha256(), NULL) != 1)
		return false;
	for (unsigned int i = 0; i < size; i++)
		(void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
	return true;
}
