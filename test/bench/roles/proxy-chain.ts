/** proxy-chain as a process of its own. */
import { Server } from 'proxy-chain';
import { serveCalls } from './serve-calls.js';

serveCalls({
  async listen() {
    const server = new Server({ host: '127.0.0.1', port: 0 });
    await server.listen();
    return server.port;
  },
});
