/* The bound of sending: one UDP GSO message after the other from a buffer of equal packets, nothing else done. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#define UDP_SEGMENT_OPTION 103
#define SOL_UDP_LEVEL 17

int64_t gso_loop(int fd, const uint8_t *buffer, uint64_t nbytes, uint16_t segment, uint32_t segments, uint32_t addr, uint16_t port) {
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = addr};
    struct iovec part;
    struct msghdr message = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_UDP_LEVEL;
    header->cmsg_type = UDP_SEGMENT_OPTION;
    header->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(header), &segment, sizeof segment);
    uint64_t step = (uint64_t)segment * segments, done = 0;
    while (done < nbytes) {
        part.iov_base = (void *)(buffer + done);
        part.iov_len = nbytes - done < step ? nbytes - done : step;
        if (sendmsg(fd, &message, 0) < 0)
            return -1;
        done += part.iov_len;
    }
    return (int64_t)(done / segment);
}
