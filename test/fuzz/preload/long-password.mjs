// Loaded into a gateway by the fuzzer's own test (`node --import`): breaks it as an exception that nobody thought of
// would. The process ends when a password of more than 100 characters is hashed.
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

const LENGTH_MAX = 100;
const realHash = crypto.createHash;

crypto.createHash = (...args) => {
  const hash = realHash(...args);
  const realUpdate = hash.update;
  hash.update = (data, ...more) => {
    if (typeof data === 'string' && data.length > LENGTH_MAX)
      setImmediate(() => {
        throw new RangeError('too long a password');
      });
    return realUpdate.call(hash, data, ...more);
  };
  return hash;
};
syncBuiltinESMExports();
