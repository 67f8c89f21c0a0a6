// The streams of the SDK as web streams, at the pace of their readers and writers.

interface Source<T> {
  recv(): Promise<T | null>;
  close(): Promise<void>;
}

interface Sink {
  write(data: Uint8Array): Promise<void>;
  close(): Promise<void>;
  abort(reason: unknown): Promise<void>;
}

/** One item at a time, and none ahead of its reader. */
export function webReadable<T>(source: Source<T>): ReadableStream<T> {
  return new ReadableStream<T>(
    {
      pull: async (controller) => {
        const item = await source.recv();
        if (item === null) controller.close();
        else controller.enqueue(item);
      },
      cancel: () => source.close(),
    },
    { highWaterMark: 0 },
  );
}

export function webWritable(sink: Sink): WritableStream<Uint8Array> {
  return new WritableStream<Uint8Array>({
    write: (data) => sink.write(data),
    close: () => sink.close(),
    abort: (reason) => sink.abort(reason),
  });
}
