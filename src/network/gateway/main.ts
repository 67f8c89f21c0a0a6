// bulkhead-gateway: the process through which every sandbox of this host reaches anything. It outlives the daemon; when it
// dies its sockets go with it, and every network is closed until the daemon attaches it to another. It ends by itself when
// no VM needs it and no daemon is there.
//
// Usage: main.ts BUILD_DIR, with the socket that it is to listen on as descriptor 3.
import { createServer, type Socket } from 'node:net';
import { systemClock } from '../../controller/clock.ts';
import { loadHostLibrary } from '../../vmm/ffi.ts';
import { type ControlCall, LISTENER_FD, readMessages, writeMessage } from './control.ts';
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
    const { id } = message;
    void gateway.handle(message).then(
      (result) => writeMessage(socket, { id, result }),
      (error: unknown) =>
        writeMessage(socket, { id, error: error instanceof Error ? error.message : String(error) }),
    );
  });
}

const [buildDir = ''] = process.argv.slice(2);
process.title = 'bulkhead-gateway';
const library = loadHostLibrary(buildDir);
// One would hold values of secrets. The limit alone is ignored where the kernel hands dumps to a program.
library.forbidDumps();
const gateway = new Gateway(library, systemClock);
const daemons = new Set<Socket>();

/** A daemon that comes at this moment finds its connection closed, and starts another gateway. */
function endIfUnused(): void {
  if (daemons.size === 0 && gateway.isIdle) process.exit(0);
}

setInterval(() => {
  gateway.sweep();
  endIfUnused();
}, PROCESS_CHECK_MS);
createServer((socket) => {
  daemons.add(socket);
  socket.on('close', () => {
    daemons.delete(socket);
    endIfUnused();
  });
  serve(socket, gateway);
}).listen({ fd: LISTENER_FD });
