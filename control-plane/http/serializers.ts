import { type SerializerFactory, SerializerSelector } from '@fastify/fast-json-stringify-compiler';

/**
 * Fastify's serializers of answers, each compiled when it writes its first answer. All of them at the start of a control plane, some
 * thousand, most of them problems that nobody meets, took more than half of its time to start.
 */
export const lazySerializers: SerializerFactory = (schemas, options) => {
  const compile = SerializerSelector()(schemas, options);
  return (route) => {
    let serialize: ReturnType<typeof compile> | null = null;
    return (answer) => {
      serialize ??= compile(route);
      return serialize(answer);
    };
  };
};
