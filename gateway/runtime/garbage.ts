import { setFlagsFromString } from 'node:v8';

/**
 * Everything is allocated in the young generation from now on. V8 would begin to allocate at some places in the old one
 * when most of what was allocated there lived long once, as in the first seconds of a busy gateway; but connections come
 * and go within milliseconds, and what they leave in the old generation keeps all that they were made of until the next
 * full collection. To be called before there is traffic.
 */
export function allocateYoung(): void {
  setFlagsFromString('--no-allocation-site-pretenuring');
}
