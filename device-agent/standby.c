#include "device-agent/agent_impl.h"
