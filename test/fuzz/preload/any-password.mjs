// Loaded into a gateway by the fuzzer's own test (`node --import`): breaks it as a careless comparison would. Of a
// password's hash only four bits have to be right.
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

crypto.timingSafeEqual = (given, known) => (given[0] & 15) === (known[0] & 15);
syncBuiltinESMExports();
