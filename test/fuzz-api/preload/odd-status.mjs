// Loaded into a control plane by the fuzzer's own test (`node --import`): breaks it as a status nobody documented would.
import { ServerResponse } from 'node:http';

const realWriteHead = ServerResponse.prototype.writeHead;

ServerResponse.prototype.writeHead = function writeHead(status, ...args) {
  return realWriteHead.call(this, status === 404 ? 418 : status, ...args);
};
