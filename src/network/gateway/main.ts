// bulkhead-gateway: the process through which every sandbox of this host reaches anything. It outlives the daemon; when it
// dies its sockets go with it, and every network is closed until the daemon attaches it to another.
//
// Usage: main.ts SOCKET BUILD_DIR
import { createServer, type Socket } from 'node:net';
import { systemClock } from '../../controller/clock.ts';
import { loadHostLibrary } from '../../vmm/ffi.ts';
import { type ControlCall, readMessages, writeMessage } from './control.ts';
import { Gateway } from './gateway.ts';
import { PROCESS_CHECK_MS } from './limits.ts';

function isCall(message: unknown): message is ControlCall {
  return (
    typeof message === 'object' &&
    message !== null &&
    'id' in message &&
    typeof message.id === 'number' &&
    'method' in message &&
    typeof message.method === 'string'
  );
}

function serve(socket: Socket, gateway: Gateway): void {
  socket.on('error', () => {});
  readMessages(socket, (message) => {
    if (!isCall(message)) {
      socket.destroy();
      return;
    }
    try {
      writeMessage(socket, { id: message.id, result: gateway.handle(message) });
    } catch (error) {
      writeMessage(socket, { id: message.id, error: error instanceof Error ? error.message : String(error) });
    }
  });
}

const [path = '', buildDir = ''] = process.argv.slice(2);
process.title = 'bulkhead-gateway';
const library = loadHostLibrary(buildDir);
const gateway = new Gateway(library, systemClock);
setInterval(() => gateway.sweep(), PROCESS_CHECK_MS);
createServer((socket) => serve(socket, gateway)).listen({ fd: library.unixListen(path) });
