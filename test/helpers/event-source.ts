/** A client of server-sent events for tests, on node:http, written from HTML section 9.2. */
import { get, type IncomingMessage } from 'node:http';

export interface ServerEvent {
  event: string;
  id: string | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into whatever comes
  data: any;
}

export class EventSourceClient {
  readonly events: ServerEvent[] = [];
  /** Comment lines, which keep the connection alive. */
  comments = 0;
  retryMs: number | null = null;
  ended = false;
  #text = '';
  readonly #waiting = new Set<() => void>();

  private constructor(readonly response: IncomingMessage) {
    response.setEncoding('utf8');
    response.on('data', (chunk: string) => {
      const blocks = (this.#text + chunk).split('\n\n');
      this.#text = blocks.pop() as string;
      for (const block of blocks) this.#read(block);
      this.#wake();
    });
    const end = () => {
      this.ended = true;
      this.#wake();
    };
    response.on('end', end);
    response.on('error', end);
    response.on('close', end);
  }

  /** Connects; rejects with `{status, body}` when the answer is another than 200. */
  static open(url: string, headers: Record<string, string> = {}): Promise<EventSourceClient> {
    return new Promise((resolve, reject) => {
      const request = get(url, { headers, agent: false }, (response) => {
        if (response.statusCode === 200) return resolve(new EventSourceClient(response));
        let body = '';
        response.on('data', (chunk) => {
          body += chunk;
        });
        const { statusCode: status, headers: given } = response;
        response.on('end', () =>
          reject(Object.assign(new Error('refused'), { status, headers: given, body: JSON.parse(body) })),
        );
        return undefined;
      });
      request.on('error', reject);
    });
  }

  /** The first event, come or to come, that fits. Rejects when the stream ends before. */
  async next(fits: (event: ServerEvent) => boolean): Promise<ServerEvent> {
    for (;;) {
      const found = this.events.find(fits);
      if (found) return found;
      if (this.ended) throw new Error(`the stream ended after ${JSON.stringify(this.events.at(-1))}`);
      await this.changed();
    }
  }

  async untilEnded(): Promise<void> {
    while (!this.ended) await this.changed();
  }

  /** Resolves when something came, or the stream ended. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.add(resolve));
  }

  /** What is known from all events so far: the snapshot with the changes in it. */
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into whatever comes
  get state(): any {
    return Object.assign({}, ...this.events.filter(({ event }) => event !== 'end').map(({ data }) => data));
  }

  close(): void {
    this.response.destroy();
  }

  #read(block: string): void {
    const fields = new Map<string, string>();
    for (const line of block.split('\n')) {
      if (line.startsWith(':')) this.comments++;
      const [, name, value] = /^([^:]+): ?(.*)$/.exec(line) ?? [];
      if (name !== undefined) fields.set(name, value ?? '');
    }
    const retry = fields.get('retry');
    if (retry !== undefined) this.retryMs = Number(retry);
    const data = fields.get('data');
    if (data === undefined) return;
    this.events.push({
      event: fields.get('event') ?? 'message',
      id: fields.get('id'),
      data: JSON.parse(data),
    });
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}
