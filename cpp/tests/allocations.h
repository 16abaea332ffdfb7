#pragma once

/// Calls of operator new since the program started.
long allocation_count();
