// Loaded into a control plane by the fuzzer's own test (`node --import`): breaks it as an exception that nobody thought
// of would. The process ends after its hundredth answer.
import { ServerResponse } from 'node:http';

const realEnd = ServerResponse.prototype.end;
let answers = 0;

ServerResponse.prototype.end = function end(...args) {
  if (++answers > 100) process.exit(1);
  return realEnd.apply(this, args);
};
