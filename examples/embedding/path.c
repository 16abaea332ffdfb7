#include <stdio.h>
#include <stdlib.h>

#include "legato.h"

int main(void) {
  double motion[60][9] = {{0}}, corrections[60][9];
  legato_camera_path_options options = legato_camera_path_options_default();
  const size_t size = legato_camera_smooth_path_workspace(60, &options);
  void* workspace = malloc(size); /* any memory, any alignment */
  for (int t = 0; t < 60; ++t) {
    motion[t][0] = motion[t][4] = motion[t][8] = 1;
    motion[t][2] = t % 2 == 0 ? 0.01 : -0.01; /* a hundredth of the frame's width, to and fro */
  }
  const legato_status status =
      legato_camera_smooth_path_f64(motion[0], 60, 9.0 / 16, &options, workspace, size, corrections[0], NULL, NULL);
  free(workspace);
  if (status != LEGATO_OK) return puts(legato_status_text(status)), 1;
  for (int t = 0; t < 60; ++t) printf("%.17g\n", corrections[t][2]);
  return 0;
}
