/** Answers the parent's calls over IPC and ends with it. */
// biome-ignore lint/suspicious/noExplicitAny: the arguments are checked where the calls are typed
export function serveCalls(calls: Record<string, (...args: any[]) => Promise<unknown>>): void {
  process.on('message', async ({ id, name, args }: { id: number; name: string; args: unknown[] }) => {
    try {
      process.send?.({ id, value: await calls[name]?.(...args) });
    } catch (error) {
      process.send?.({ id, error: (error as Error).message });
    }
  });
  process.on('disconnect', () => process.exit(0));
}
