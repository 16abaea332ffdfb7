"""Pictures and packets: decoding, planes, encoding and copying; the only wing that imports PyAV.

What is kept and what is not, in one place:

- **Pictures** are handed on as the decoder gives them (views, no copy) in 8-bit planar 4:2:0, 4:2:2, 4:4:4 and gray
  and in their 9 to 16-bit little-endian forms. Every other format becomes the nearest of these that loses no chroma:
  NV12 and P010 become 4:2:0 planar of the same depth, RGB and palettes become 4:4:4 (BT.709 matrix from 720 lines
  up, BT.601 below, limited range), alpha is dropped.
- **Rotation and mirroring** (the display matrix) are applied to the pixels and the tag is not written again, because
  not every player reads it; or, if asked, the pixels stay as they are stored and the tag is written again. A rotation
  by anything but quarter turns is always left alone and reported.
- **Timestamps** are kept exactly, variable frame rate included, as far as the container's clock allows. Times of
  presentation are never changed to fit those of decoding; these are made where they are missing. Matroska and WebM
  count milliseconds from zero (sound that begins earlier, as AAC in MP4 does, moves everything along with it), AVI
  counts frames, GIF hundredths of a second. Streams with arbitrary start times (MPEG-TS and the like) are moved to
  start at zero, all by the same amount.
- **Odd sizes**: a picture with subsampled chroma is written without its last odd column or row, since H.264 and its
  players need even sizes. Nothing is padded, so no pixel is invented.
- **Sound, subtitles and attachments** are copied packet by packet where the container can hold them (attachments:
  Matroska alone); what it cannot hold is named in `VideoWriter.not_copied`. Data streams, cover pictures and further
  video streams are not copied.
- **Which pictures**: those of the video stream that is marked as default, of several, or of none, of the largest.
- **Encoders** are of the input's family where the container holds it and they lose no more depth and chroma than the
  usual one.
- Sample aspect ratio, color range, primaries, transfer and matrix, mastering display and content light level (where the
  encoder writes them: x265, x264, SVT-AV1), chapters and text metadata are written again. HDR metadata that each
  picture has of its own (HDR10+, Dolby Vision) is not.
"""
