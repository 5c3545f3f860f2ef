#include "../rows.cu"
