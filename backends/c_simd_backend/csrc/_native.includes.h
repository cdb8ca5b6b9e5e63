#include "dispatch.h"
#include "run.h"
