// Loaded into a gateway by the fuzzer's own test (`node --import`): breaks it as an exception that nobody thought of
// would. The process ends when a password of a hundred and more letters x is hashed.
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

const LONG_PASSWORD = /^x{100,255}$/;
const realHash = crypto.hash;

crypto.hash = (algorithm, data, ...more) => {
  if (typeof data === 'string' && LONG_PASSWORD.test(data))
    setImmediate(() => {
      throw new RangeError('too long a password');
    });
  return realHash(algorithm, data, ...more);
};
syncBuiltinESMExports();
