// Loaded into a gateway by the fuzzer's own test (`node --import`): breaks it as a careless comparison would. Of a
// password's hash only the first byte has to be right.
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

crypto.timingSafeEqual = (given, known) => given[0] === known[0];
syncBuiltinESMExports();
