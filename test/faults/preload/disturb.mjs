// Loaded into a gateway or control plane by the fault tests (`node --import`): moves the wall clock and slows the disk
// of that process when the parent says so over IPC. Nothing in the product knows of it.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const RealDate = globalThis.Date;
let clockOffsetMs = 0;
let syncDelayMs = 0;

globalThis.Date = class ShiftedDate extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(RealDate.now() + clockOffsetMs);
    else super(...args);
  }
  static now() {
    return RealDate.now() + clockOffsetMs;
  }
};

const realSync = fs.fdatasync;
fs.fdatasync = (fd, done) => {
  if (syncDelayMs === 0) realSync(fd, done);
  else setTimeout(() => realSync(fd, done), syncDelayMs);
};
syncBuiltinESMExports();

process.on('message', (message) => {
  if (typeof message?.clockOffsetMs === 'number') clockOffsetMs = message.clockOffsetMs;
  if (typeof message?.syncDelayMs === 'number') syncDelayMs = message.syncDelayMs;
});
process.channel?.unref();
