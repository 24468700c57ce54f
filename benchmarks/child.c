/* child --port=N ...: says when it began, listens on 127.0.0.1:N at once, answers every request with a completion. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char BODY[] =
    "{\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"x\"}}]}";

static void answer(int peer) {
  char request[8192], head[256], *end = 0, *length;
  size_t have = 0;
  while (!end && have < sizeof request - 1) {
    ssize_t part = read(peer, request + have, sizeof request - 1 - have);
    if (part <= 0) return;
    request[have += (size_t)part] = 0;
    end = strstr(request, "\r\n\r\n");
  }
  if (!end) return;
  length = strcasestr(request, "\r\ncontent-length:");
  size_t wanted = (size_t)(end + 4 - request) + (length ? strtoul(length + 17, 0, 10) : 0);
  while (have < wanted) {
    char rest[4096];
    ssize_t part = read(peer, rest, sizeof rest);
    if (part <= 0) return;
    have += (size_t)part;
  }
  int size = snprintf(head, sizeof head,
                      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
                      sizeof BODY - 1);
  if (write(peer, head, (size_t)size) < 0 || write(peer, BODY, sizeof BODY - 1) < 0) return;
}

int main(int count, char **arguments) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  fprintf(stderr, "began %lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
  int port = 0, one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  for (int i = 1; i < count; i++)
    if (!strncmp(arguments[i], "--port=", 7)) port = atoi(arguments[i] + 7);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 64)) return 1;
  for (;;) {
    int peer = accept(listener, 0, 0);
    if (peer < 0) continue;
    answer(peer);
    close(peer);
  }
}
